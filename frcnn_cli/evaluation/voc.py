"""Average precision as PASCAL VOC counts it (Everingham et al., IJCV 2010, section 4.2; devkit `VOCevaldet.m`).

Glossary: D detections of one class by falling score, N images, w their weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.annotations import Detections, GroundTruth
from frcnn_cli.evaluation.matching import CORRECT, IGNORED, Matches, match

Metric = Literal["area", "voc07"]


@dataclass(frozen=True)
class Curve:
    """recall, precision: float64 [D] after each detection that counts; scores: float32 [D]."""

    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class ClassResult:
    """One class: average precision (NaN where there is no object to find), and how many objects and detections."""

    name: str
    ap: float
    objects: int
    detections: int
    recall: float  # share of objects found by any detection
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
        return mean([c.ap for c in self.classes])


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
    matches = match(detections, ground_truth, len(classes), iou_threshold)
    results = []
    for label, name in enumerate(classes):
        curve = precision_recall(matches, label)
        objects = int(matches.to_find[label].sum())
        ap = AVERAGES[metric](curve.recall, curve.precision) if objects else float("nan")
        found = float(curve.recall[-1]) if len(curve.recall) else 0.0
        results.append(ClassResult(name, ap, objects, len(curve.recall), found if objects else float("nan"), curve))
    return Result(tuple(results), metric, iou_threshold, matches)


def precision_recall(matches: Matches, label: int, weights: NDArray[np.float64] | None = None) -> Curve:
    """The curve of one class.

    Args:
        weights: float64 [N], how often each image counts; once by default.
    """
    mine = matches.of_class(label)
    counted = matches.outcomes[mine] != IGNORED
    correct = matches.outcomes[mine][counted] == CORRECT
    scores = matches.scores[mine][counted]
    if weights is None:
        hits, total = np.cumsum(correct), np.arange(1, len(correct) + 1)
        objects = matches.to_find[label].sum()
    else:
        weight = weights[matches.images[mine][counted]]
        hits, total = np.cumsum(weight * correct), np.cumsum(weight)
        objects = matches.to_find[label] @ weights
    return Curve(hits / max(objects, 1), hits / np.maximum(total, 1), scores)


def weighted_mean_ap(matches: Matches, metric: Metric, weights: NDArray[np.float64]) -> float:
    """mAP where image i counts weights[i] times, a whole number."""
    aps = []
    for label in np.flatnonzero(matches.to_find @ weights > 0):
        curve = precision_recall(matches, int(label), weights)
        aps.append(AVERAGES[metric](curve.recall, curve.precision))
    return mean(aps)


def mean(values: Sequence[float]) -> float:
    """Of those that are numbers; NaN where none is."""
    known = [value for value in values if value == value]
    return float(np.mean(known)) if known else float("nan")


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


AVERAGES = {"area": average_precision_area, "voc07": average_precision_voc07}
