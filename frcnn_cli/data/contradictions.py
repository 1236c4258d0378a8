"""Labels that a detector contradicts: the likeliest errors of a labelled data set.

After Brodley and Friedl, Identifying Mislabeled Training Data (JAIR 1999): what a trained model is sure of, and the
labels deny, is worth a second look. The detections should come from a detector that was not trained on the same images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from frcnn_cli.core.annotations import Detections, GroundTruth
from frcnn_cli.core.boxes import covered, iou

Kind = Literal["not labelled", "another class", "not detected"]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Contradiction:
    """A label and detections that do not agree.

    kind: "not labelled": a detection that no label overlaps; "another class": a label that a detection of another class
        overlaps, and none of its own; "not detected": a label that no detection overlaps.
    confidence: the score of the detection; for a label that is not detected, the fraction of its class's labels that
        are detected.
    label, detected: class names, or None. label_box, detected_box: the boxes, x1 y1 x2 y2, or None.
    """

    kind: Kind
    key: str
    confidence: float
    label: str | None
    label_box: Box | None
    detected: str | None
    detected_box: Box | None

    def __str__(self) -> str:
        label = f"{self.label} {_written(self.label_box)}"
        if self.kind == "not labelled":
            return f"{self.detected} {_written(self.detected_box)} is detected, but not labelled"
        if self.kind == "another class":
            return f"{label} is labelled, but detected as {self.detected}"
        return f"{label} is labelled, but not detected"


def contradictions(
    truth: Mapping[str, GroundTruth],
    detections: Mapping[str, Detections],
    classes: Sequence[str],
    min_score: float = 0.5,
    iou_threshold: float = 0.5,
) -> list[Contradiction]:
    """All contradictions, the most confident first.

    Args:
        truth, detections: by image key; labels index `classes`. Difficult objects and crowds contradict nothing.
        min_score: detections of a lower score count as none.
        iou_threshold: minimum IoU of a detection that overlaps a label.
    """
    sure = {key: found.where(found.scores >= min_score) for key, found in detections.items()}
    recall = _recall(truth, sure, len(classes), iou_threshold)
    found = [
        one
        for key, objects in truth.items()
        for one in _of_image(key, objects, sure[key], classes, recall, iou_threshold)
    ]
    return sorted(found, key=lambda one: (-one.confidence, one.kind, one.key))


def _of_image(
    key: str, truth: GroundTruth, found: Detections, classes: Sequence[str], recall: Sequence[float], threshold: float
) -> Iterator[Contradiction]:
    overlaps = iou(found.boxes, truth.boxes) >= threshold
    same = found.labels[:, None] == truth.labels[None, :]
    crowds = covered(found.boxes, truth.boxes[truth.crowd]) >= threshold
    for i in np.flatnonzero(~overlaps.any(axis=1) & ~crowds.any(axis=1)):
        name, box = classes[found.labels[i]], _box(found.boxes[i])
        yield Contradiction("not labelled", key, float(found.scores[i]), None, None, name, box)
    for j in np.flatnonzero(~(overlaps & same).any(axis=0) & ~truth.difficult):
        label, box = classes[truth.labels[j]], _box(truth.boxes[j])
        others = np.flatnonzero(overlaps[:, j])
        # A detection that agrees with another label does not speak against this one.
        others = others[~(overlaps[others] & same[others]).any(axis=1)]
        if len(others):
            best = int(others[found.scores[others].argmax()])
            detected, place = classes[found.labels[best]], _box(found.boxes[best])
            yield Contradiction("another class", key, float(found.scores[best]), label, box, detected, place)
        else:
            yield Contradiction("not detected", key, recall[truth.labels[j]], label, box, None, None)


def _recall(
    truth: Mapping[str, GroundTruth], found: Mapping[str, Detections], num_classes: int, threshold: float
) -> list[float]:
    """The fraction of the objects of each class that a detection of the class overlaps."""
    hits, objects = np.zeros(num_classes), np.zeros(num_classes)
    for key, of_image in truth.items():
        overlaps = iou(found[key].boxes, of_image.boxes) >= threshold
        same = found[key].labels[:, None] == of_image.labels[None, :]
        np.add.at(hits, of_image.labels, (overlaps & same).any(axis=0))
        np.add.at(objects, of_image.labels, 1)
    return (hits / np.maximum(objects, 1)).tolist()  # type: ignore[no-any-return]


def _box(row: np.ndarray[tuple[int], np.dtype[np.float32]]) -> Box:
    x1, y1, x2, y2 = row.tolist()
    return x1, y1, x2, y2


def _written(box: Box | None) -> str:
    return " ".join(f"{value:.0f}" for value in box) if box else ""
