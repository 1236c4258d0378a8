"""Non-maximum suppression, each class on its own (Fast R-CNN, section 4.4)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.annotations import Detections
from frcnn_cli.boxes import iou


class Thresholds(NamedTuple):
    """What becomes a detection: scores above `min_score`, not suppressed, the best `max_per_image` of all classes."""

    iou: float = 0.3
    min_score: float = 0.05
    max_per_image: int = 100


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


def detect(probabilities: NDArray[Any], boxes: NDArray[Any], thresholds: Thresholds = Thresholds()) -> Detections:
    """The detections of one image, by falling score.

    Args:
        probabilities: [N, K+1], background first. boxes: [N, K, 4], refined for each class.
    """
    found_boxes, found_scores, found_labels = [], [], []
    for label in range(boxes.shape[1]):
        scores = probabilities[:, label + 1]
        candidates = np.flatnonzero(scores > thresholds.min_score)
        kept = candidates[nms(boxes[candidates, label], scores[candidates], thresholds.iou)]
        found_boxes.append(boxes[kept, label])
        found_scores.append(scores[kept])
        found_labels.append(np.full(len(kept), label))
    if not found_boxes:
        return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    scores = np.concatenate(found_scores)
    best = np.argsort(-scores, kind="stable")[: thresholds.max_per_image]
    return Detections(np.concatenate(found_boxes)[best], scores[best], np.concatenate(found_labels)[best])
