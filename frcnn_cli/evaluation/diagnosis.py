"""What a detector confuses, where its scores should be cut, and whether its scores are probabilities.

Glossary: K classes, N images, B bins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.annotations import Detections, GroundTruth
from frcnn_cli.core.boxes import covered, iou
from frcnn_cli.core.equality import ArrayRecord
from frcnn_cli.evaluation.matching import CORRECT, IGNORED, Matches
from frcnn_cli.evaluation.voc import Result

BINS = 10


@dataclass(frozen=True, eq=False)
class ConfusionMatrix(ArrayRecord):
    """counts: int64 [K+1, K+1], objects by their class (rows) and the class that they were detected as (columns). The
    last row counts detections of the background, the last column objects that were not detected; so a row sums to the
    objects of a class, and a column to the detections of a class, without difficult objects and crowds and detections
    of them.

    iou_threshold, min_score: the thresholds used.
    """

    counts: NDArray[np.int64]
    iou_threshold: float
    min_score: float


def confusion_matrix(
    detections: Mapping[str, Detections],
    ground_truth: Mapping[str, GroundTruth],
    num_classes: int,
    iou_threshold: float = 0.5,
    min_score: float = 0.5,
) -> ConfusionMatrix:
    """Counts which classes are taken for which.

    Objects and detections of an image are paired one to one if their IoU is at least the threshold: first those of the
    same class, then the others, and of each the pairs with the largest IoU first.

    Args:
        detections, ground_truth: by image key; an image without an entry in `detections` has none.
        min_score: detections of a lower score are skipped.
    """
    counts = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    for key, truth in ground_truth.items():
        found = detections.get(key)
        if found is None:
            found = Detections([], [], [])  # type: ignore[arg-type]
        found = found.where(found.scores >= min_score)
        pairs = _pairs(found, truth, iou_threshold)
        of_object = np.full(len(truth), num_classes)
        of_detection = np.full(len(found), num_classes)
        for i, j in pairs:
            of_object[j], of_detection[i] = found.labels[i], truth.labels[j]
        np.add.at(counts, (truth.labels[~truth.difficult], of_object[~truth.difficult]), 1)
        free = of_detection == num_classes
        # Like VOC and COCO: what lies on an ignored object or in a crowd counts neither for nor against.
        free &= (iou(found.boxes, truth.boxes[truth.difficult]) < iou_threshold).all(axis=1)
        free &= (covered(found.boxes, truth.boxes[truth.crowd]) < iou_threshold).all(axis=1)
        np.add.at(counts[num_classes], found.labels[free], 1)
    return ConfusionMatrix(counts, iou_threshold, min_score)


def _pairs(found: Detections, truth: GroundTruth, threshold: float) -> list[tuple[int, int]]:
    """Pairs of a detection and an object, each at most once."""
    overlaps = iou(found.boxes, truth.boxes)
    same = found.labels[:, None] == truth.labels[None, :]
    rows, columns = np.nonzero(overlaps >= threshold)
    order = np.lexsort((-overlaps[rows, columns], ~same[rows, columns]))
    pairs: list[tuple[int, int]] = []
    taken_rows: set[int] = set()
    taken_columns: set[int] = set()
    for i, j in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if i not in taken_rows and j not in taken_columns:
            pairs.append((i, j))
            taken_rows.add(i)
            taken_columns.add(j)
    return pairs


@dataclass(frozen=True)
class Cut:
    """The score from which the detections of a class should be kept: the one with the best F1.

    score, precision, recall, f1: NaN for a class without objects or without a correct detection.
    """

    name: str
    score: float
    precision: float
    recall: float
    f1: float


def best_cuts(result: Result) -> list[Cut]:
    """The best score threshold of each class."""
    cuts = []
    for c in result.classes:
        curve = c.curve
        total = curve.precision + curve.recall
        f1 = np.divide(2 * curve.precision * curve.recall, total, out=np.zeros_like(total), where=total > 0)
        # A threshold keeps all detections of equal score.
        ends = np.flatnonzero(np.append(curve.scores[1:] != curve.scores[:-1], True)) if len(f1) else np.zeros(0, int)
        if not c.objects or not len(ends) or f1[ends].max() == 0:
            cuts.append(Cut(c.name, *[float("nan")] * 4))
            continue
        best = ends[f1[ends].argmax()]
        values = curve.scores[best], curve.precision[best], curve.recall[best], f1[best]
        cuts.append(Cut(c.name, *map(float, values)))
    return cuts


@dataclass(frozen=True, eq=False)
class Calibration(ArrayRecord):
    """Whether scores are probabilities (Guo et al., ICML 2017), over all detections that count.

    edges: float64 [B+1], the bins of the scores. counts: int64 [B], detections per bin. scores, precision: float64 [B],
    their mean score and the fraction that is correct; NaN in an empty bin.
    error: the expected calibration error, the mean over the bins of |mean score - precision|, weighted by their counts.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    scores: NDArray[np.float64]
    precision: NDArray[np.float64]
    error: float


def calibration(matches: Matches, bins: int = BINS) -> Calibration | None:
    """The calibration of the scores of matched detections; None if a score is not between 0 and 1."""
    counted = matches.outcomes != IGNORED
    scores, correct = matches.scores[counted].astype(np.float64), matches.outcomes[counted] == CORRECT
    if len(scores) and (scores.min() < 0 or scores.max() > 1):
        return None
    edges = np.linspace(0, 1, bins + 1)
    which = np.clip(np.digitize(scores, edges) - 1, 0, bins - 1)
    counts = np.bincount(which, minlength=bins)
    sums = np.bincount(which, scores, bins), np.bincount(which, correct, bins)
    empty = np.full(bins, np.nan)
    mean_scores, precision = (np.divide(total, counts, out=empty.copy(), where=counts > 0) for total in sums)
    error = float(np.abs(sums[0] - sums[1]).sum() / len(scores)) if len(scores) else float("nan")
    return Calibration(edges, counts.astype(np.int64), mean_scores, precision, error)
