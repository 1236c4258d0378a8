"""What proposals are worth: the share of objects that they cover, against the number of boxes kept.

An AP can hardly exceed the recall of the proposals: an object that no box covers is not found.
Objects marked difficult are left out, as in VOC.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.annotations import GroundTruth
from frcnn_cli.boxes import Boxes, iou

DEFAULT_COUNTS = (10, 50, 100, 200, 500, 1000, 2000)


@dataclass(frozen=True)
class Recall:
    """One line of the table: the figures when the best `count` boxes of each image are kept."""

    count: int
    mean_boxes: float  # boxes an image, at most `count`
    recall_50: float  # share of objects with IoU >= 0.5
    recall_70: float
    average_best_overlap: float  # mean over objects of the best IoU (ABO; over all classes together)


def best_overlaps(boxes: Boxes, truth: GroundTruth, counts: Sequence[int]) -> NDArray[np.float64]:
    """The best IoU of every object of an image (difficult ones left out) among the first n boxes: [len(counts), G]."""
    objects = truth.boxes[~truth.difficult]
    overlaps = iou(boxes, objects)
    found = [overlaps[:n].max(axis=0) if len(overlaps[:n]) else np.zeros(len(objects)) for n in counts]
    return np.stack(found) if found else np.zeros((0, len(objects)))


def recall(images: Iterable[tuple[Boxes, GroundTruth]], counts: Sequence[int] = DEFAULT_COUNTS) -> list[Recall]:
    """Figures for each number of boxes in `counts`, over all objects of all images.

    Args:
        images: for every image its proposals, best first, and its objects.
    """
    overlaps, sizes = [], []
    for boxes, truth in images:
        overlaps.append(best_overlaps(boxes, truth, counts))
        sizes.append(len(boxes))
    best = np.concatenate(overlaps, axis=1) if overlaps else np.zeros((len(counts), 0))
    if best.shape[1] == 0:
        raise ValueError("the data set has no objects to cover")
    return [
        Recall(
            count=count,
            mean_boxes=float(np.minimum(sizes, count).mean()),
            recall_50=float((row >= 0.5).mean()),
            recall_70=float((row >= 0.7).mean()),
            average_best_overlap=float(row.mean()),
        )
        for count, row in zip(counts, best, strict=True)
    ]
