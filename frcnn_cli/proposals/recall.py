"""How well proposals cover the objects, as a function of the number of boxes kept.

An object that no box covers cannot be detected. Objects marked difficult are excluded, as in VOC.

Glossary: N numbers of boxes kept ("counts"), G objects of all images together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.annotations import GroundTruth
from frcnn_cli.core.boxes import Boxes, area, in_blocks, iou
from frcnn_cli.core.equality import ArrayRecord

DEFAULT_COUNTS = (10, 50, 100, 200, 500, 1000, 2000)
THRESHOLDS = np.arange(50, 100, 5) / 100  # those of COCO's average recall
SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, np.inf)}  # COCO's, square pixels


class NoObjectsError(ValueError):
    """There are no objects to cover."""


@dataclass(frozen=True)
class Recall:
    """How well some objects are covered if the best `count` boxes of each image are kept."""

    count: int
    mean_boxes: float  # mean number of boxes per image, at most `count`
    objects: int
    recall_50: float  # fraction of objects that a box covers with IoU >= 0.5
    recall_70: float
    average_recall: float  # COCO's AR: mean of that fraction at IoU 0.5, 0.55, ..., 0.95
    average_recall_hosang: float  # AR of Hosang et al. (2015): twice the area under recall from IoU 0.5 to 1; lower
    average_best_overlap: float  # ABO: mean over objects of the best IoU
    mean_average_best_overlap: float  # MABO (Uijlings et al., 2013): mean over classes of their ABO
    ceiling: float  # the mAP at IoU 0.5 of a perfect classifier of the boxes, without refining them


@dataclass(frozen=True, eq=False)
class Coverage(ArrayRecord):
    """How well each object of all images is covered.

    counts: numbers of boxes kept, N.
    best: float64 [N, G], the best IoU of each object among the first n boxes of its image.
    claimed: int64 [G], the rank of the first box that VOC's evaluation would count for this object: its IoU is at least
        0.5, and it overlaps no other object of the class more. A number larger than any rank if there is none.
    labels: int64 [G]. areas: float64 [G]. boxes: int64 [images], the number of boxes per image.
    """

    counts: tuple[int, ...]
    best: NDArray[np.float64]
    claimed: NDArray[np.int64]
    labels: NDArray[np.int64]
    areas: NDArray[np.float64]
    boxes: NDArray[np.int64]

    def figures(self, which: NDArray[np.bool_] | None = None) -> list[Recall]:
        """A `Recall` per count.

        Args:
            which: bool [G], the objects to include; by default all.

        Raises:
            ValueError: no objects are included.
        """
        which = np.ones(len(self.labels), bool) if which is None else which
        if not which.any():
            raise ValueError("no objects are selected")
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
                    average_recall_hosang=float(2 * np.maximum(row - 0.5, 0).mean()),  # the integral, per object
                    average_best_overlap=float(row.mean()),
                    mean_average_best_overlap=float(
                        np.mean([row[labels == label].mean() for label in np.unique(labels)])
                    ),
                    # Without wrong detections, precision is 1 up to the recall, which is then the area under the curve.
                    ceiling=float(np.mean([found[labels == label].mean() for label in np.unique(labels)])),
                )
            )
        return lines

    def at_iou(self, thresholds: NDArray[np.float64] = THRESHOLDS) -> NDArray[np.float64]:
        """The recall of all objects at IoU thresholds: float64 [N, len(thresholds)]."""
        recall: NDArray[np.float64] = (self.best[:, :, None] >= thresholds).mean(axis=1)
        return recall

    def of_class(self, label: int) -> NDArray[np.bool_]:
        """Which objects have this label: bool [G]."""
        selected: NDArray[np.bool_] = self.labels == label
        return selected

    def of_size(self, name: str) -> NDArray[np.bool_]:
        """Which objects are "small", "medium" or "large" in COCO's definition: bool [G]."""
        low, high = SIZES[name]
        selected: NDArray[np.bool_] = (self.areas >= low) & (self.areas < high)
        return selected


def cover(images: Iterable[tuple[Boxes, GroundTruth]], counts: Sequence[int] = DEFAULT_COUNTS) -> Coverage:
    """Matches the proposals of every image, best first, with its objects.

    Args:
        images: for each image its proposals, float32 [P, 4], and its objects.
        counts: numbers of boxes to keep.

    Raises:
        NoObjectsError: there are no objects, or only difficult ones.
    """
    best, claimed, labels, areas, boxes = [], [], [], [], []
    for proposals, truth in images:
        kept = ~truth.difficult
        covering, ranks = _covered(proposals, truth, counts)
        best.append(covering[:, kept])
        claimed.append(ranks[kept])
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


def _covered(
    proposals: Boxes, truth: GroundTruth, counts: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """`best` [N, G] and `claimed` [G] of one image, as in `Coverage`; a block of proposals at a time is compared."""
    best = np.zeros((len(counts), len(truth)))
    rank = np.full(len(truth), np.iinfo(np.int64).max)
    classes = [np.flatnonzero(truth.labels == label) for label in np.unique(truth.labels)]
    for rows in in_blocks(len(proposals), len(truth)):
        overlaps = iou(proposals[rows], truth.boxes)
        for kept, count in zip(best, counts, strict=True):
            np.maximum(kept, overlaps[: max(count - rows.start, 0)].max(axis=0, initial=0.0), out=kept)
        for same in classes:
            favourite = overlaps[:, same].argmax(axis=1)
            enough = np.flatnonzero(overlaps[np.arange(len(overlaps)), same[favourite]] >= 0.5)
            np.minimum.at(rank, same[favourite[enough]], rows.start + enough)
    return best, rank


def recall(images: Iterable[tuple[Boxes, GroundTruth]], counts: Sequence[int] = DEFAULT_COUNTS) -> list[Recall]:
    """How well proposals cover the objects of all images: one `Recall` per number of boxes kept.

        with open_stage("props.h5") as file:
            pairs = [(file[file.index[sample.ref.key]]["boxes"], sample.truth) for sample in data]
        print(recall(pairs))

    Args:
        images: for each image its proposals, float32 [N, 4], best first, and its objects. counts: numbers of boxes.

    For tables by class and size, see `cover`, which takes the same arguments.

    Raises:
        NoObjectsError: there are no objects, or only difficult ones.
    """
    return cover(images, counts).figures()
