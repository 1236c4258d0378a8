"""Average precision as PASCAL VOC counts it (Everingham et al., IJCV 2010, section 4.2; devkit `VOCevaldet.m`).

Every detection, by falling score, is held against the object of its class and image that it overlaps most. With IoU >=
threshold it is correct the first time and a duplicate, hence wrong, after that; below it is wrong. An object marked
difficult is not counted, and a detection that falls on it counts neither way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.annotations import Detections, GroundTruth
from frcnn_cli.boxes import iou

Metric = Literal["area", "voc07"]


@dataclass(frozen=True)
class ClassResult:
    """One class: average precision (NaN where there is no object to find), and how many objects and detections."""

    name: str
    ap: float
    objects: int
    detections: int
    recall: float  # share of objects found by any detection


@dataclass(frozen=True)
class Result:
    """Average precision of every class, and its mean over the classes that have objects."""

    classes: tuple[ClassResult, ...]
    metric: Metric
    iou_threshold: float

    @property
    def mean_ap(self) -> float:
        values = [c.ap for c in self.classes if c.objects]
        return float(np.mean(values)) if values else float("nan")


def evaluate(
    detections: Mapping[str, Detections],
    ground_truth: Mapping[str, GroundTruth],
    classes: Sequence[str],
    iou_threshold: float = 0.5,
    metric: Metric = "area",
) -> Result:
    """Average precision over the images of `ground_truth`.

    Args:
        detections, ground_truth: by image key. An image without an entry in `detections` has none.
        classes: names; labels count in them.
        metric: "area" under the monotone precision-recall curve (VOC 2010 on), or "voc07": the mean of the precision
            at recall 0, 0.1, ..., 1.

    Raises:
        KeyError: detections of an image that `ground_truth` lacks.
    """
    for key in detections:
        if key not in ground_truth:
            raise KeyError(f"there is no ground truth for image {key!r}")
    average = average_precision_area if metric == "area" else average_precision_voc07
    results = []
    for label, name in enumerate(classes):
        correct, objects = match_class(detections, ground_truth, label, iou_threshold)
        recall, precision = precision_recall(correct, objects)
        found = float(recall[-1]) if len(recall) else 0.0
        ap = average(recall, precision) if objects else float("nan")
        results.append(ClassResult(name, ap, objects, len(correct), found if objects else float("nan")))
    return Result(tuple(results), metric, iou_threshold)


def match_class(
    detections: Mapping[str, Detections], ground_truth: Mapping[str, GroundTruth], label: int, iou_threshold: float
) -> tuple[NDArray[np.bool_], int]:
    """Whether each counted detection of one class is correct, over all images by falling score, and the number of
    objects to find. Of equal scores the image with the smaller key comes first, and within an image the earlier.
    """
    scores, outcomes = [], []
    for key in sorted(detections):
        found = detections[key]
        mine = found.labels == label
        order = np.argsort(-found.scores[mine], kind="stable")
        boxes = found.boxes[mine][order]
        scores.append(found.scores[mine][order])
        outcomes.append(_match_image(boxes, ground_truth[key], label, iou_threshold))
    objects = sum(int(((truth.labels == label) & ~truth.difficult).sum()) for truth in ground_truth.values())
    if not scores:
        return np.zeros(0, bool), objects
    outcome = np.concatenate(outcomes)[np.argsort(-np.concatenate(scores), kind="stable")]
    return outcome[outcome != _IGNORED] == _CORRECT, objects


_WRONG, _CORRECT, _IGNORED = 0, 1, 2


def _match_image(boxes: NDArray[np.float32], truth: GroundTruth, label: int, threshold: float) -> NDArray[np.int8]:
    """The outcome of each box, boxes by falling score."""
    mine = truth.labels == label
    difficult = truth.difficult[mine]
    outcome = np.full(len(boxes), _WRONG, np.int8)
    if not mine.any() or not len(boxes):
        return outcome
    overlaps = iou(boxes, truth.boxes[mine])
    taken = np.zeros(len(difficult), bool)
    for i, best in enumerate(overlaps.argmax(axis=1)):
        if overlaps[i, best] < threshold:
            continue
        if difficult[best]:
            outcome[i] = _IGNORED
        elif not taken[best]:
            taken[best] = True
            outcome[i] = _CORRECT
    return outcome


def precision_recall(correct: NDArray[np.bool_], objects: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Recall [D] and precision [D] after each detection, detections by falling score."""
    hits = np.cumsum(correct)
    return hits / max(objects, 1), hits / np.arange(1, len(correct) + 1)


def average_precision_area(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    """The area under the curve, precision made monotone: at each recall the best that any higher recall has."""
    recall = np.concatenate([[0.0], recall])
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall) * precision))


def average_precision_voc07(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    """The mean over recall t = 0, 0.1, ..., 1 of the best precision at recall >= t.

    t is counted up in floating point, as in the code that made the published figures: it is 0.6000000000000001 where
    0.6 is meant, so that a recall of exactly 9/15 does not reach it.
    """
    best = [precision[recall >= t].max(initial=0.0) for t in 0.1 * np.arange(11)]
    return float(np.mean(best))
