"""Average precision by the rules of PASCAL VOC (Everingham et al., IJCV 2010, section 4.2; devkit `VOCevaldet.m`).

Glossary: D detections of one class by descending score, N images, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.annotations import Detections, GroundTruth
from frcnn_cli.core.equality import ArrayRecord
from frcnn_cli.evaluation.matching import CORRECT, IGNORED, Matches, match

Metric = Literal["area", "voc07"]


@dataclass(frozen=True, eq=False)
class Curve(ArrayRecord):
    """recall, precision: float64 [D] after each detection that counts; scores: float32 [D]."""

    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class ClassResult:
    """One class: average precision (NaN without objects), and the numbers of objects and detections."""

    name: str
    ap: float
    objects: int
    detections: int
    recall: float  # fraction of objects with a correct detection
    curve: Curve = field(repr=False, compare=False)


@dataclass(frozen=True)
class Result:
    """Average precision of every class, and its mean over the classes that have objects."""

    classes: tuple[ClassResult, ...]
    metric: Metric
    iou_threshold: float
    matches: Matches = field(repr=False, compare=False)

    @property
    def mean_ap(self) -> float:
        """mAP: the mean over the classes that have objects."""
        return mean([c.ap for c in self.classes])


class LabelledImages(Protocol):
    """A data set: class names, and the objects of each image by key."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def truth(self) -> Mapping[str, GroundTruth]: ...


def evaluate(
    detections: Mapping[str, Detections],
    ground_truth: Mapping[str, GroundTruth] | LabelledImages,
    classes: Sequence[str] | None = None,
    iou_threshold: float = 0.5,
    metric: Metric = "area",
    missing: Literal["error", "empty"] = "error",
) -> Result:
    """Average precision over the images of `ground_truth`.

        data = load_dataset("voc:my-data", "test")
        print(evaluate(detect_images(data, detector), data).mean_ap)

    Args:
        detections: by image key.
        ground_truth: a `Dataset`, or the objects by image key.
        classes: the class names that labels index; by default those of the `Dataset`.
        iou_threshold: minimum IoU of a correct detection.
        metric: "area" under the monotone precision-recall curve (VOC 2010 and later), or "voc07": the mean of the
            precision at recall 0, 0.1, ..., 1.
        missing: images without an entry in `detections` are an "error", or "empty": nothing was detected in them.

    Raises:
        ValueError: `classes` is missing or does not cover all labels, or `detections` lacks images.
        KeyError: detections of an image that `ground_truth` lacks. TypeError: arguments of the wrong type.
    """
    ground_truth, classes = checked(detections, ground_truth, classes, missing)
    matches = match(detections, ground_truth, len(classes), iou_threshold)
    results = []
    for label, name in enumerate(classes):
        curve = precision_recall(matches, label)
        objects = int(matches.to_find[label].sum())
        ap = AVERAGES[metric](curve.recall, curve.precision) if objects else float("nan")
        found = float(curve.recall[-1]) if len(curve.recall) else 0.0
        results.append(ClassResult(name, ap, objects, len(curve.recall), found if objects else float("nan"), curve))
    return Result(tuple(results), metric, iou_threshold, matches)


def checked(
    detections: Mapping[str, Detections],
    ground_truth: Mapping[str, GroundTruth] | LabelledImages,
    classes: Sequence[str] | None,
    missing: Literal["error", "empty"],
) -> tuple[Mapping[str, GroundTruth], Sequence[str]]:
    """The objects by image key and the class names, from arguments as those of `evaluate`, which has the same
    errors."""
    if isinstance(ground_truth, str) or not isinstance(detections, Mapping):
        raise TypeError(
            "pass detections by image key, and a data set: evaluate(detect_images(data, detector), load_dataset(...))"
        )
    if not isinstance(ground_truth, Mapping):
        classes = ground_truth.classes if classes is None else classes
        ground_truth = ground_truth.truth
    if classes is None:
        raise ValueError("pass the class names: evaluate(detections, ground_truth, classes)")
    lacking = [key for key in ground_truth if key not in detections]
    if detections and len(lacking) == len(ground_truth) > 0:
        other = next(iter(detections))
        raise KeyError(f"no image of the data set is among the detections: keys are {lacking[0]!r} and {other!r}")
    if lacking and missing == "error":
        raise ValueError(
            f"{len(lacking)} of {len(ground_truth)} images have no entry in detections, e.g. {lacking[0]!r}; pass"
            ' missing="empty" if nothing was detected in them'
        )
    return ground_truth, classes


def precision_recall(matches: Matches, label: int, weights: NDArray[np.float64] | None = None) -> Curve:
    """The precision-recall curve of one class.

    Args:
        weights: float64 [N], how often each image counts; by default once.
    """
    own = matches.of_class(label)
    counted = matches.outcomes[own] != IGNORED
    correct = matches.outcomes[own][counted] == CORRECT
    scores = matches.scores[own][counted]
    if weights is None:
        hits, total = np.cumsum(correct), np.arange(1, len(correct) + 1)
        objects = matches.to_find[label].sum()
    else:
        weight = weights[matches.images[own][counted]]
        hits, total = np.cumsum(weight * correct), np.cumsum(weight)
        objects = matches.to_find[label] @ weights
    return Curve(hits / max(objects, 1), hits / np.maximum(total, 1), scores)


def weighted_mean_ap(matches: Matches, metric: Metric, weights: NDArray[np.float64]) -> float:
    """The mAP if image i counts weights[i] times, a whole number."""
    aps = []
    for label in np.flatnonzero(matches.to_find @ weights > 0):
        curve = precision_recall(matches, int(label), weights)
        aps.append(AVERAGES[metric](curve.recall, curve.precision))
    return mean(aps)


def mean(values: Sequence[float]) -> float:
    """The mean of the values that are not NaN; NaN if all are."""
    known = [value for value in values if value == value]
    return float(np.mean(known)) if known else float("nan")


def average_precision_area(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    """The area under the monotone curve: at each recall, the best precision at that or any higher recall."""
    recall = np.concatenate([[0.0], recall])
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall) * precision))


VOC07_RECALLS = np.concatenate([0.1 * np.arange(6), 1 - 0.1 * np.arange(5)[::-1]])


def average_precision_voc07(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    """The mean over recall t = 0, 0.1, ..., 1 of the best precision at recall >= t.

    The thresholds are those of the devkit, whose MATLAB counts from both ends: 0.6 is 1 - 4 * 0.1, so that a recall of
    exactly 9/15 reaches it. (The Python code of Fast R-CNN has 0.6000000000000001, which changes 6% of random curves.)
    """
    best = [precision[recall >= t].max(initial=0.0) for t in VOC07_RECALLS]
    return float(np.mean(best))


AVERAGES = {"area": average_precision_area, "voc07": average_precision_voc07}
