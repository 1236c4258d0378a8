"""Which detections are right, as PASCAL VOC counts it (Everingham et al., IJCV 2010, section 4.2; `VOCevaldet.m`).

Every detection, by falling score, is held against the object of its class and image that it overlaps most. With IoU >=
threshold it is correct the first time and a duplicate, hence wrong, after that; below it is wrong. An object marked
difficult is not counted, and a detection that falls on it counts neither way.

Glossary: N images, D detections of all images together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.annotations import Detections, GroundTruth
from frcnn_cli.boxes import iou

WRONG, CORRECT, IGNORED = 0, 1, 2


@dataclass(frozen=True)
class Matches:
    """All detections, by class, and within a class by falling score. Of equal scores the image with the smaller key
    comes first, and within an image the earlier.

    keys: of the N images, sorted.
    labels, images, places: int64 [D], class, image (in `keys`) and place among the detections of that image.
    scores: float32 [D].
    outcomes: int8 [D], WRONG, CORRECT or IGNORED.
    objects: int64 [D], place in its image of the object of its class that a detection overlaps most, -1 for none.
    overlaps: float64 [D], the IoU with it.
    to_find: int64 [K, N], how many objects of a class an image has, difficult ones left out.
    """

    keys: tuple[str, ...]
    labels: NDArray[np.int64]
    images: NDArray[np.int64]
    places: NDArray[np.int64]
    scores: NDArray[np.float32]
    outcomes: NDArray[np.int8]
    objects: NDArray[np.int64]
    overlaps: NDArray[np.float64]
    to_find: NDArray[np.int64]

    def of_class(self, label: int) -> slice:
        """Where the detections of a class lie."""
        start, stop = np.searchsorted(self.labels, [label, label + 1])
        return slice(int(start), int(stop))


def match(
    detections: Mapping[str, Detections],
    ground_truth: Mapping[str, GroundTruth],
    num_classes: int,
    iou_threshold: float = 0.5,
) -> Matches:
    """Holds all detections against the objects of the images of `ground_truth`.

    Args:
        detections, ground_truth: by image key. An image without an entry in `detections` has none.

    Raises:
        KeyError: detections of an image that `ground_truth` lacks.
    """
    keys = tuple(sorted(ground_truth))
    row = {key: i for i, key in enumerate(keys)}
    for key in detections:
        if key not in row:
            raise KeyError(f"there is no ground truth for image {key!r}")
    to_find = np.zeros((num_classes, len(keys)), np.int64)
    for i, key in enumerate(keys):
        truth = ground_truth[key]
        np.add.at(to_find[:, i], truth.labels[~truth.difficult], 1)
    named = [(row[key], found) for key, found in sorted(detections.items()) if len(found)]
    if not named:
        whole, real = np.zeros(0, np.int64), np.zeros(0, np.float64)
        return Matches(keys, whole, whole, whole, real.astype(np.float32), whole.astype(np.int8), whole, real, to_find)
    images = np.repeat([i for i, _ in named], [len(found) for _, found in named])
    places = np.concatenate([np.arange(len(found)) for _, found in named])
    labels, scores, boxes = (
        np.concatenate([getattr(found, name) for _, found in named]) for name in ("labels", "scores", "boxes")
    )
    order = np.lexsort((places, images, -scores, labels))
    images, places, labels, scores, boxes = (column[order] for column in (images, places, labels, scores, boxes))
    outcomes = np.full(len(order), WRONG, np.int8)
    objects = np.full(len(order), -1, np.int64)
    overlaps = np.zeros(len(order))
    # Detections of one class in one image are matched together; they stay in the order of their scores.
    together = np.lexsort((images, labels))
    starts = np.flatnonzero(np.diff(images[together], prepend=-1) | np.diff(labels[together], prepend=-1))
    for rows in np.split(together, starts[1:]):
        truth = ground_truth[keys[images[rows[0]]]]
        mine = np.flatnonzero(truth.labels == labels[rows[0]])
        if not len(mine):
            continue
        table = iou(boxes[rows], truth.boxes[mine])
        best = table.argmax(axis=1)
        objects[rows] = mine[best]
        overlaps[rows] = table[np.arange(len(rows)), best]
        taken: set[int] = set()
        for at, obj in zip(rows[overlaps[rows] >= iou_threshold], best[overlaps[rows] >= iou_threshold], strict=True):
            if truth.difficult[mine[obj]]:
                outcomes[at] = IGNORED
            elif obj not in taken:
                taken.add(obj)
                outcomes[at] = CORRECT
    return Matches(keys, labels, images, places, scores, outcomes, objects, overlaps, to_find)
