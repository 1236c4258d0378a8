"""Labelled images as their files have them, nothing mended; and their objects made fit to learn from.

Every layout is read to this, whatever its own convention; boxes are ours (see `boxes`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from frcnn_cli.annotations import GroundTruth
from frcnn_cli.data.dataset import Dataset, Sample
from frcnn_cli.errors import DataError
from frcnn_cli.image import ImageRef

BadBoxes = Literal["error", "fix"]
MOST_PIXELS = 1e7  # of a corner, either way
_SLACK = 0.1  # pixels that a box may reach outside without a word: COCO's corners are rounded to hundredths

Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class LabelledObject:
    """An object as annotated. written: its name and numbers as the file has them, to point at it."""

    name: str
    box: Corners
    written: str
    difficult: bool = False
    crowd: bool = False
    area: float | None = None


@dataclass(frozen=True)
class LabelledImage:
    """size: width and height as annotated, if they are. least: what a side of a box must exceed to be one (1 where
    corners are whole pixels, both inside)."""

    ref: ImageRef
    source: Path
    size: tuple[float, float] | None
    objects: tuple[LabelledObject, ...]
    least: float = 0.0


@dataclass(frozen=True)
class Labels:
    """One split. classes: in the order that labels count in. image_ids, categories: COCO's numbers, as in `Dataset`."""

    name: str
    split: str
    classes: tuple[str, ...]
    images: tuple[LabelledImage, ...]
    image_ids: Mapping[int, str] = field(default_factory=dict)
    categories: Mapping[int, str] = field(default_factory=dict)

    def dataset(self, bad_boxes: BadBoxes) -> Dataset:
        """
        Args:
            bad_boxes: what to do with a box that has no area or reaches outside its image: "error" stops and names the
                first, "fix" leaves the former out and cuts the latter to the image; the data set's `notes` say how
                many.

        Raises:
            DataError: see above, or not one object in the whole data set.
        """
        mender = _Mender(bad_boxes)
        order = {name: label for label, name in enumerate(self.classes)}
        samples = tuple(
            Sample(image.ref, mender.ground_truth(image, order))
            for image in sorted(self.images, key=lambda image: image.ref.key)
        )
        notes = tuple(mender.notes())
        return Dataset(self.name, self.split, self.classes, samples, notes, self.image_ids, self.categories)


def sound(*numbers: float) -> bool:
    """Whether these can be pixels: finite, and no larger than any picture could be."""
    return all(abs(number) < MOST_PIXELS for number in numbers)  # NaN is below nothing


def has_area(obj: LabelledObject, least: float) -> bool:
    x1, y1, x2, y2 = obj.box
    return x2 - x1 > least and y2 - y1 > least


class _Mender:
    """Turns annotations into ground truth; stops at a bad box, or mends it and keeps count."""

    def __init__(self, bad_boxes: BadBoxes) -> None:
        self.bad_boxes = bad_boxes
        self.dropped: list[str] = []
        self.clipped: list[str] = []

    def ground_truth(self, image: LabelledImage, order: Mapping[str, int]) -> GroundTruth:
        kept = [(obj, box) for obj in image.objects if (box := self._mended(image, obj)) is not None]
        if not kept:
            return GroundTruth(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
        objects, boxes = zip(*kept, strict=True)
        truth = GroundTruth(
            np.array(boxes, np.float64),
            np.array([order[obj.name] for obj in objects]),
            np.array([obj.difficult or obj.crowd for obj in objects]),
            np.array([obj.crowd for obj in objects]),
        )
        for i, obj in enumerate(objects):
            if obj.area is not None:
                truth.areas[i] = obj.area
        return truth

    def _mended(self, image: LabelledImage, obj: LabelledObject) -> Corners | None:
        x1, y1, x2, y2 = obj.box
        width, height = image.size or (math.inf, math.inf)
        where = f"{image.source}: {obj.written}"
        if not has_area(obj, image.least) or x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
            if self.bad_boxes == "error":
                raise DataError(f"{where} has no area", "Correct it, or leave such boxes out with --bad-boxes fix")
            self.dropped.append(where)
            return None
        if min(x1, y1) < -_SLACK or x2 > width + _SLACK or y2 > height + _SLACK:
            if self.bad_boxes == "error":
                counted = " (VOC counts pixels from 1)" if image.least else ""
                raise DataError(
                    f"{where} reaches outside its image{counted}",
                    "Correct it, or cut such boxes to the image with --bad-boxes fix",
                )
            self.clipped.append(where)
        return max(x1, 0.0), max(y1, 0.0), min(x2, width), min(y2, height)

    def notes(self) -> list[str]:
        notes = []
        if self.dropped:
            notes.append(f"left out {len(self.dropped)} box(es) without area, e.g. {self.dropped[0]}")
        if self.clipped:
            notes.append(f"cut {len(self.clipped)} box(es) to their image, e.g. {self.clipped[0]}")
        return notes
