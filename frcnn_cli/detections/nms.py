"""From scores to detections: non-maximum suppression, independently per class (Fast R-CNN, section 4.4).

Glossary: N proposals of an image, K classes, D detections.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.annotations import Detections
from frcnn_cli.core.boxes import area
from frcnn_cli.core.equality import hash_of_values, same_values
from frcnn_cli.recipes.sections import Detection


class Thresholds(NamedTuple):
    """Which boxes become detections.

    iou: a box is suppressed if its IoU with a better box of its class is at least this.
    min_score: scores must be greater than this.
    max_per_image: detections per image, over all classes; 0: all.
    per_class: boxes per class and image before NMS, best first; 0: all.
    """

    iou: float = 0.3
    min_score: float = 0.05
    max_per_image: int = 100
    per_class: int = 0

    @classmethod
    def of_one_image(cls, recipe: Detection) -> Self:
        """The thresholds of a recipe for a single image.

        If the recipe limits detections over a whole set of images, a single image cannot apply that rule. Every value
        that equals the one of `paper` is then replaced by that of the authors' later code, which limits each image.
        """
        own = {name: getattr(recipe, name) for name in cls._fields}
        if not recipe.per_set:
            return cls(**own)
        paper = Detection()
        return cls().changed(**{name: value for name, value in own.items() if value != getattr(paper, name)})

    def changed(self, **values: float | int | None) -> Self:
        """These thresholds with other values; None keeps a value."""
        given: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
        return self._replace(**given)

    def check(self) -> None:
        """Raises ValueError for thresholds that make no sense."""
        for name, value in (("iou", self.iou), ("min_score", self.min_score)):
            if not 0 <= value <= 1:
                raise ValueError(f"the threshold {name} must be between 0 and 1, not {value}")
        for name, count in (("max_per_image", self.max_per_image), ("per_class", self.per_class)):
            if count < 0:
                raise ValueError(f"the threshold {name} must be 0 (all) or more, not {count}")


def nms(boxes: NDArray[Any], scores: NDArray[Any], threshold: float) -> NDArray[np.int64]:
    """Indices of the boxes that remain, by descending score; of equal scores the earlier comes first.

    A box is suppressed by a better one that overlaps it with IoU >= threshold (the authors' kernel suppresses at
    equality).

    Args:
        boxes: [N, 4]. scores: [N].

    Raises:
        ValueError: the shapes are not as stated.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != (len(boxes),):
        raise ValueError(f"expected boxes [N, 4] and scores [N], got {list(boxes.shape)} and {list(scores.shape)}")
    order = np.argsort(-scores, kind="stable")
    kept: NDArray[np.int64] = order[_remaining(boxes[order], np.zeros(len(order), np.int64), threshold)]
    return kept


class Selection(NamedTuple):
    """Which steps of the selection each refined box passed: bool [N, K] each.

    ranked: among the best boxes of its class, which NMS considers. kept: not suppressed. final: a detection.
    """

    ranked: NDArray[np.bool_]
    kept: NDArray[np.bool_]
    final: NDArray[np.bool_]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Selection) and same_values(tuple(self), tuple(other))

    def __ne__(self, other: object) -> bool:
        return not self == other  # otherwise the comparison of tuples

    def __hash__(self) -> int:
        return hash_of_values(tuple(self))


def detections_from_scores(
    probabilities: NDArray[Any],
    boxes: NDArray[Any],
    thresholds: Thresholds = Thresholds(),
    min_scores: Sequence[float] | None = None,
    classes: Sequence[str] = (),
) -> Detections:
    """The detections of one image, by descending score.

    Args:
        probabilities: [N, K+1], background first. boxes: [N, K, 4], refined for each class.
        min_scores: per class, a score that detections must exceed in addition to `thresholds.min_score`.
        classes: the K class names, which the detections then know.

    Raises:
        ValueError: shapes that are not as stated, or thresholds that make no sense.
    """
    thresholds.check()
    _check_shapes(probabilities, boxes)
    labels, rows = _ranked(probabilities, thresholds, min_scores)
    kept = _remaining(boxes[rows, labels], labels, thresholds.iou)
    labels, rows = _best_of_image(probabilities, labels[kept], rows[kept], thresholds)
    return Detections(boxes[rows, labels], probabilities[rows, labels + 1], labels, tuple(classes), rows)


def trace_selection(
    probabilities: NDArray[Any],
    boxes: NDArray[Any],
    thresholds: Thresholds = Thresholds(),
    min_scores: Sequence[float] | None = None,
) -> Selection:
    """Which steps of `detections_from_scores` each box passed; the arguments are the same."""
    _check_shapes(probabilities, boxes)
    selection = Selection(*(np.zeros(boxes.shape[:2], bool) for _ in range(3)))
    labels, rows = _ranked(probabilities, thresholds, min_scores)
    selection.ranked[rows, labels] = True
    kept = _remaining(boxes[rows, labels], labels, thresholds.iou)
    selection.kept[rows[kept], labels[kept]] = True
    labels, rows = _best_of_image(probabilities, labels[kept], rows[kept], thresholds)
    selection.final[rows, labels] = True
    return selection


def min_scores_of_set(
    probabilities: Iterable[NDArray[Any]], num_classes: int, thresholds: Thresholds, per_set: int
) -> list[float]:
    """Per class, the threshold that leaves fewer boxes than `per_set` times the number of images, over a whole set.

    The authors' code keeps a list of the best boxes of a class, raises the threshold to their lowest score after each
    image, and finally drops the boxes that do not exceed it. This is the threshold with which it ends, whatever the
    order of the images. Per image, the best `per_class` boxes before NMS count.

    Args:
        probabilities: [N, K+1] of each image.
    """
    best: list[list[NDArray[Any]]] = [[] for _ in range(num_classes)]
    images = 0
    for rows in probabilities:
        images += 1
        for label, scores in enumerate(rows[:, 1:].T):
            scores = scores[scores > thresholds.min_score]
            best[label].append(np.sort(scores)[::-1][: thresholds.per_class or None])
    found = []
    for parts in best:
        scores = np.sort(np.concatenate([*parts, np.zeros(0)]))[::-1]
        found.append(float(scores[per_set * images - 1]) if len(scores) > per_set * images else 0.0)
    return found


def _check_shapes(probabilities: NDArray[Any], boxes: NDArray[Any]) -> None:
    if boxes.ndim != 3 or boxes.shape[2] != 4 or probabilities.shape != (len(boxes), boxes.shape[1] + 1):
        raise ValueError(
            f"expected probabilities [N, K+1] and boxes [N, K, 4], got {list(probabilities.shape)} and"
            f" {list(boxes.shape)}"
        )


def _ranked(
    probabilities: NDArray[Any], thresholds: Thresholds, min_scores: Sequence[float] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Labels and rows of the boxes that NMS considers: class by class, each by descending score."""
    scores = probabilities[:, 1:].T
    minimum = np.full(len(scores), thresholds.min_score, probabilities.dtype)
    if min_scores is not None:
        minimum = np.maximum(minimum, np.asarray(min_scores, probabilities.dtype))
    labels, rows = np.nonzero(scores > minimum[:, None])
    order = np.lexsort((-scores[labels, rows], labels))  # stable: of equal scores the earlier row comes first
    labels, rows = labels[order], rows[order]
    if thresholds.per_class:
        place_in_class = np.arange(len(labels)) - np.searchsorted(labels, labels)
        best = place_in_class < thresholds.per_class
        labels, rows = labels[best], rows[best]
    return labels, rows


def _remaining(boxes: NDArray[Any], labels: NDArray[np.int64], threshold: float) -> NDArray[np.bool_]:
    """Which boxes NMS keeps, of boxes [N, 4] that are sorted by label and then best first: bool [N]."""
    if not (labels[1:] == labels[:-1]).any():
        return np.ones(len(labels), bool)
    from frcnn_cli.detections.suppression import kept_of  # imported late: Numba takes 0.3 s

    ends = np.searchsorted(labels, labels, side="right")
    exact = boxes.astype(np.float64)
    kept: NDArray[np.bool_] = kept_of(exact, area(exact), ends, float(threshold))
    return kept


def _best_of_image(
    probabilities: NDArray[Any], labels: NDArray[np.int64], rows: NDArray[np.int64], thresholds: Thresholds
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Labels and rows of the detections, by descending score."""
    best = np.argsort(-probabilities[rows, labels + 1], kind="stable")[: thresholds.max_per_image or None]
    return labels[best], rows[best]
