"""Which detections are correct by the rules of PASCAL VOC (Everingham et al., IJCV 2010, section 4.2; `VOCevaldet.m`).

Every detection, by descending score, is compared with the object of its class and image that it overlaps most. If the
IoU is at least the threshold, the first detection of the object is correct and later ones are duplicates, hence wrong;
below the threshold it is wrong. Objects marked difficult do not count, and neither do detections of them.

Glossary: N images, D detections of all images together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.annotations import Detections, GroundTruth
from frcnn_cli.core.boxes import best_overlap
from frcnn_cli.core.equality import ArrayRecord

WRONG, CORRECT, IGNORED = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Matches(ArrayRecord):
    """All detections, sorted by class, and within a class by descending score. Of equal scores the image with the
    smaller key comes first, and within an image the earlier detection.

    keys: of the N images, sorted.
    labels, images, places: int64 [D], class, image (index in `keys`) and index among the detections of that image.
    scores: float32 [D].
    outcomes: int8 [D], WRONG, CORRECT or IGNORED.
    objects: int64 [D], for each detection the object of its class that it overlaps most, as an index within its image;
        -1: none.
    overlaps: float64 [D], the IoU with that object.
    to_find: int64 [K, N], the number of objects per class and image, without difficult ones.
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
        """The range of the detections of a class."""
        start, stop = np.searchsorted(self.labels, [label, label + 1])
        return slice(int(start), int(stop))


def match(
    detections: Mapping[str, Detections],
    ground_truth: Mapping[str, GroundTruth],
    num_classes: int,
    iou_threshold: float = 0.5,
) -> Matches:
    """Compares all detections with the objects of the images in `ground_truth`.

    Args:
        detections, ground_truth: by image key. An image without an entry in `detections` has no detections.

    Raises:
        KeyError: detections of an image that `ground_truth` lacks.
        ValueError: a label that is not below `num_classes`.
    """
    keys = tuple(sorted(ground_truth))
    row = {key: i for i, key in enumerate(keys)}
    for key in detections:
        if key not in row:
            raise KeyError(f"there is no ground truth for image {key!r}")
    for what, annotated in (("a detection", detections), ("an object", ground_truth)):
        for key, found in annotated.items():
            label = int(found.labels.max(initial=-1))
            if label >= num_classes:
                raise ValueError(f"{what} of image {key!r} has label {label}, but there are {num_classes} classes")
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
    # Detections of the same class and image are matched together, in the order of their scores.
    together = np.lexsort((images, labels))
    starts = np.flatnonzero(np.diff(images[together], prepend=-1) | np.diff(labels[together], prepend=-1))
    for rows in np.split(together, starts[1:]):
        truth = ground_truth[keys[images[rows[0]]]]
        same = np.flatnonzero(truth.labels == labels[rows[0]])
        if not len(same):
            continue
        overlaps[rows], best = best_overlap(boxes[rows], truth.boxes[same])
        objects[rows] = same[best]
        taken: set[int] = set()
        for at, obj in zip(rows[overlaps[rows] >= iou_threshold], best[overlaps[rows] >= iou_threshold], strict=True):
            if truth.difficult[same[obj]]:
                outcomes[at] = IGNORED
            elif obj not in taken:
                taken.add(obj)
                outcomes[at] = CORRECT
    return Matches(keys, labels, images, places, scores, outcomes, objects, overlaps, to_find)
