"""What proposals are worth: how well they cover the objects, against the number of boxes kept.

An object that no box covers is not found. Objects marked difficult are left out, as in VOC.

Glossary: N numbers of boxes kept ("counts"), G objects of all images together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.annotations import GroundTruth
from frcnn_cli.boxes import Boxes, area, iou

DEFAULT_COUNTS = (10, 50, 100, 200, 500, 1000, 2000)
THRESHOLDS = np.arange(50, 100, 5) / 100  # those of COCO's average recall
SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, np.inf)}  # COCO's, square pixels


class NoObjectsError(ValueError):
    """There is nothing to cover."""


@dataclass(frozen=True)
class Recall:
    """The figures of some objects when the best `count` boxes of each image are kept."""

    count: int
    mean_boxes: float  # boxes an image, at most `count`
    objects: int
    recall_50: float  # share of objects with IoU >= 0.5
    recall_70: float
    average_recall: float  # AR: mean of the share at IoU 0.5, 0.55, ..., 0.95
    average_best_overlap: float  # ABO: mean over objects of the best IoU
    ceiling: float  # the mAP at IoU 0.5 that a perfect classifier of the boxes as they are would reach


@dataclass(frozen=True)
class Coverage:
    """Of every object of every image, how well it is covered.

    counts: numbers of boxes kept, N.
    best: float64 [N, G], the best IoU among the first n boxes of its image.
    claimed: int64 [G], the place of the first box that would count as this object's in VOC's evaluation: IoU >= 0.5,
        and of all objects of the class this is the one that the box overlaps most. Past all boxes where there is none.
    labels: int64 [G]; areas: float64 [G]; boxes: int64 [images], the number of each.
    """

    counts: tuple[int, ...]
    best: NDArray[np.float64]
    claimed: NDArray[np.int64]
    labels: NDArray[np.int64]
    areas: NDArray[np.float64]
    boxes: NDArray[np.int64]

    def figures(self, which: NDArray[np.bool_] | None = None) -> list[Recall]:
        """A `Recall` for each count, of the objects in `which` (bool [G]; all by default), which must be some."""
        which = np.ones(len(self.labels), bool) if which is None else which
        if not which.any():
            raise ValueError("there are no such objects")
        labels = self.labels[which]
        lines = []
        for count, row in zip(self.counts, self.best[:, which], strict=True):
            found = self.claimed[which] < count
            lines.append(
                Recall(
                    count=count,
                    mean_boxes=float(np.minimum(self.boxes, count).mean()),
                    objects=len(labels),
                    recall_50=float((row >= 0.5).mean()),
                    recall_70=float((row >= 0.7).mean()),
                    average_recall=float((row[:, None] >= THRESHOLDS).mean()),
                    average_best_overlap=float(row.mean()),
                    # With no wrong detection, precision is 1 up to the recall, and the area under the curve is it.
                    ceiling=float(np.mean([found[labels == label].mean() for label in np.unique(labels)])),
                )
            )
        return lines

    def at_iou(self, thresholds: NDArray[np.float64] = THRESHOLDS) -> NDArray[np.float64]:
        """Recall [N, thresholds] of all objects."""
        recall: NDArray[np.float64] = (self.best[:, :, None] >= thresholds).mean(axis=1)
        return recall

    def of_class(self, label: int) -> NDArray[np.bool_]:
        mine: NDArray[np.bool_] = self.labels == label
        return mine

    def of_size(self, name: str) -> NDArray[np.bool_]:
        """Which objects are small, medium or large, as COCO has it."""
        least, most = SIZES[name]
        inside: NDArray[np.bool_] = (self.areas >= least) & (self.areas < most)
        return inside


def cover(images: Iterable[tuple[Boxes, GroundTruth]], counts: Sequence[int] = DEFAULT_COUNTS) -> Coverage:
    """Holds the proposals of every image, best first, against its objects.

    Raises:
        NoObjectsError: there are no objects (but difficult ones).
    """
    best, claimed, labels, areas, boxes = [], [], [], [], []
    for proposals, truth in images:
        kept = ~truth.difficult
        overlaps = iou(proposals, truth.boxes)
        best.append(_best(overlaps[:, kept], counts))
        claimed.append(_claimed(overlaps, truth)[kept])
        labels.append(truth.labels[kept])
        areas.append(area(truth.boxes[kept]).astype(np.float64))
        boxes.append(len(proposals))
    if not sum(map(len, labels)):
        raise NoObjectsError("the data set has no objects to cover")
    return Coverage(
        tuple(counts),
        np.concatenate(best, axis=1),
        np.concatenate(claimed),
        np.concatenate(labels),
        np.concatenate(areas),
        np.array(boxes),
    )


def _best(overlaps: NDArray[np.float64], counts: Sequence[int]) -> NDArray[np.float64]:
    """The best overlap of every object among the first n boxes: [N, G]."""
    return np.stack([overlaps[:n].max(axis=0, initial=0.0) for n in counts])


def _claimed(overlaps: NDArray[np.float64], truth: GroundTruth) -> NDArray[np.int64]:
    place = np.full(len(truth), np.iinfo(np.int64).max)
    for label in np.unique(truth.labels):
        mine = np.flatnonzero(truth.labels == label)
        if not len(overlaps):
            continue
        favourite = overlaps[:, mine].argmax(axis=1)
        enough = np.flatnonzero(overlaps[np.arange(len(overlaps)), mine[favourite]] >= 0.5)
        np.minimum.at(place, mine[favourite[enough]], enough)
    return place


def recall(images: Iterable[tuple[Boxes, GroundTruth]], counts: Sequence[int] = DEFAULT_COUNTS) -> list[Recall]:
    """`cover(...).figures()`: a line for each number of boxes kept, over all objects of all images."""
    return cover(images, counts).figures()
