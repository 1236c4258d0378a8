"""Non-maximum suppression, each class on its own (Fast R-CNN, section 4.4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.annotations import Detections
from frcnn_cli.boxes import iou
from frcnn_cli.recipes.sections import Detection


class Thresholds(NamedTuple):
    """What becomes a detection: scores above `min_score`; of those the best `per_class` of each class (0: all); what is
    not suppressed; the best `max_per_image` of all classes (0: all)."""

    iou: float = 0.3
    min_score: float = 0.05
    max_per_image: int = 100
    per_class: int = 0

    @classmethod
    def of_one_image(cls, recipe: Detection) -> Self:
        """As a recipe has it. Where it rules over a whole set of images, what the authors' later code has for one takes
        the place of what the recipe leaves as the paper has it."""
        own = {name: getattr(recipe, name) for name in cls._fields}
        if not recipe.per_set:
            return cls(**own)
        papers = Detection()
        return cls()._replace(**{name: value for name, value in own.items() if value != getattr(papers, name)})


def nms(boxes: NDArray[Any], scores: NDArray[Any], threshold: float) -> NDArray[np.int64]:
    """Indices of the boxes that stay, by falling score; of equal scores the earlier comes first.

    A box is suppressed by a better one that overlaps it with IoU >= threshold (the authors' kernel suppresses at
    equality).

    Args:
        boxes: [N, 4]. scores: [N].
    """
    order = np.argsort(-scores, kind="stable")
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        order = order[iou(boxes[best : best + 1], boxes[order])[0] < threshold]
    return np.array(kept, np.int64)


class Selection(NamedTuple):
    """How far each refined box came, bool [N, K] each: among the best of their class by score, left by suppression,
    among the best of the image (the detections)."""

    ranked: NDArray[np.bool_]
    kept: NDArray[np.bool_]
    final: NDArray[np.bool_]


def detect(
    probabilities: NDArray[Any],
    boxes: NDArray[Any],
    thresholds: Thresholds = Thresholds(),
    above: Sequence[float] | None = None,
) -> Detections:
    """The detections of one image, by falling score.

    Args:
        probabilities: [N, K+1], background first. boxes: [N, K, 4], refined for each class.
        above: a score for each class that detections must exceed, besides the threshold of all classes.
    """
    _, labels, rows = _best_of_image(_kept_of_classes(probabilities, boxes, thresholds, above)[1], thresholds)
    return Detections(boxes[rows, labels], probabilities[rows, labels + 1], labels)


def select(
    probabilities: NDArray[Any],
    boxes: NDArray[Any],
    thresholds: Thresholds = Thresholds(),
    above: Sequence[float] | None = None,
) -> Selection:
    """What `detect` does, told of every box."""
    ranked, kept = _kept_of_classes(probabilities, boxes, thresholds, above)
    found = Selection(*(np.zeros(boxes.shape[:2], bool) for _ in range(3)))
    for label, (rows, best) in enumerate(zip(ranked, kept, strict=True)):
        found.ranked[rows, label] = True
        found.kept[best[1], label] = True
    _, labels, rows = _best_of_image(kept, thresholds)
    found.final[rows, labels] = True
    return found


_Kept = tuple[NDArray[Any], NDArray[np.int64]]  # scores and rows, by falling score


def _kept_of_classes(
    probabilities: NDArray[Any], boxes: NDArray[Any], thresholds: Thresholds, above: Sequence[float] | None
) -> tuple[list[NDArray[np.int64]], list[_Kept]]:
    """Of each class, the rows that suppression looks at, and what it leaves."""
    ranked, kept = [], []
    for label in range(boxes.shape[1]):
        scores = probabilities[:, label + 1]
        least = thresholds.min_score if above is None else max(thresholds.min_score, above[label])
        rows = np.flatnonzero(scores > least)
        if thresholds.per_class:
            rows = rows[np.argsort(-scores[rows], kind="stable")[: thresholds.per_class]]
        ranked.append(rows)
        rows = rows[nms(boxes[rows, label], scores[rows], thresholds.iou)]
        kept.append((scores[rows], rows))
    return ranked, kept


def _best_of_image(
    kept: Sequence[_Kept], thresholds: Thresholds
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    """Scores, labels and rows of the detections."""
    labels = np.concatenate([np.full(len(rows), label) for label, (_, rows) in enumerate(kept)] or [np.zeros(0, int)])
    scores = np.concatenate([scores for scores, _ in kept] or [np.zeros(0)])
    rows = np.concatenate([rows for _, rows in kept] or [np.zeros(0, np.int64)])
    best = np.argsort(-scores, kind="stable")[: thresholds.max_per_image or None]
    return scores[best], labels[best].astype(np.int64), rows[best].astype(np.int64)


def scores_to_exceed(
    probabilities: Iterable[NDArray[Any]], num_classes: int, thresholds: Thresholds, per_set: int
) -> list[float]:
    """For each class the score above which fewer than `per_set` times the number of images are left, over a whole set.

    The authors raise it image by image to the lowest of the best so many, and at the end sort out what does not exceed
    it; this is where they end up, whatever the order of the images. Counted are the best `per_class` of each image,
    before suppression.

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
