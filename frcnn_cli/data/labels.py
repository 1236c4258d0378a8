"""Labelled images exactly as their files state them, and the ground truth that is made from them.

Every format is read into these classes, whatever its own conventions; boxes are in our convention (see `core.boxes`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.annotations import GroundTruth
from frcnn_cli.core.boxes import are_fractions
from frcnn_cli.core.errors import DataError, listed
from frcnn_cli.core.ids import CocoId
from frcnn_cli.core.image import ImageRef
from frcnn_cli.data.dataset import Dataset, Sample

BadBoxes = Literal["error", "fix"]
MAX_COORDINATE = 1e7  # largest plausible coordinate
_TOLERANCE = 0.1  # pixels that a box may reach outside its image: COCO rounds corners to hundredths

Problems = list[DataError]
Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class LabelledObject:
    """An object as annotated. written: its name and numbers as the file states them, for messages."""

    name: str
    box: Corners
    written: str
    difficult: bool = False
    crowd: bool = False
    area: float | None = None


@dataclass(frozen=True)
class LabelledImage:
    """An image as annotated.

    source: the file with the annotation. size: width and height as annotated, if they are.
    min_side: a box is accepted only if both sides are longer than this. VOC: 1, because a box with xmin = xmax becomes
        one pixel wide, and is refused; otherwise 0.
    file_name: the picture that the annotation names, if it does.
    size_stated: whether the annotation states the size; otherwise `size` is that of the picture.
    """

    ref: ImageRef
    source: Path
    size: tuple[float, float] | None
    objects: tuple[LabelledObject, ...]
    min_side: float = 0.0
    file_name: str = ""
    size_stated: bool = True


@dataclass(frozen=True)
class Labels:
    """One split.

    classes: the names that labels index. image_ids, categories: COCO's IDs, as in `Dataset`.
    layout: the format and tree that were recognised, for people. notes: what was not read, or was read in a way that
        the user should check.
    """

    name: str
    split: str
    classes: tuple[str, ...]
    images: tuple[LabelledImage, ...]
    image_ids: Mapping[CocoId, str] = field(default_factory=dict)
    categories: Mapping[CocoId, str] = field(default_factory=dict)
    layout: str = ""
    notes: tuple[str, ...] = ()

    def dataset(self, bad_boxes: BadBoxes) -> Dataset:
        """The data set.

        Args:
            bad_boxes: how boxes without area or outside their image are treated. "error" stops at the first; "fix"
                drops boxes without area and clips the others, and the `notes` of the data set state how many.

        Raises:
            DataError: with "error", such a box; or boxes that are fractions of the image size.
        """
        if are_fractions(all_boxes(self.images)):
            example = next(image for image in self.images if image.objects)
            raise DataError(
                f"{example.source}: {example.objects[0].written} and the other boxes are fractions of the image size,"
                " not pixels",
                "Multiply them by the width and height of each image",
            )
        reader = _GroundTruthReader(bad_boxes)
        order = {name: label for label, name in enumerate(self.classes)}
        samples = tuple(
            Sample(image.ref, reader.ground_truth(image, order), image.size)
            for image in sorted(self.images, key=lambda image: image.ref.key)
        )
        notes = (*self.notes, *reader.notes(), *self._emptied(samples))
        return Dataset(self.name, self.split, self.classes, samples, notes, self.image_ids, self.categories)

    def _emptied(self, samples: Iterable[Sample]) -> list[str]:
        """Which classes lost all of their objects."""
        before = {obj.name for image in self.images for obj in image.objects}
        after = {self.classes[label] for sample in samples for label in sample.truth.labels}
        lost = sorted(before - after)
        return [f"all objects of {listed(map(repr, lost))} were dropped"] if lost else []


def joined(labels: Sequence[Labels]) -> Labels:
    """Several `Labels` of one split as one. COCO's IDs are dropped if there are several."""
    if len(labels) == 1:
        return labels[0]
    classes = tuple(dict.fromkeys(name for one in labels for name in one.classes))
    images = tuple(image for one in labels for image in one.images)
    notes = tuple(dict.fromkeys(note for one in labels for note in one.notes))
    return replace(labels[0], classes=classes, images=images, notes=notes, image_ids={}, categories={})


@contextmanager
def collecting(problems: Problems | None) -> Iterator[None]:
    """Appends the DataError of the block to `problems`, so that a reader can go on; with None, raises it."""
    try:
        yield
    except DataError as error:
        if problems is None:
            raise
        problems.append(error)


def all_boxes(images: Iterable[LabelledImage]) -> NDArray[np.float64]:
    """The boxes of all objects, as annotated: float64 [N, 4]."""
    return np.array([obj.box for image in images for obj in image.objects], np.float64).reshape(-1, 4)


def counted(what: str, found: Iterable[str]) -> list[str]:
    """A note that counts things and gives an example; none if there are none.

    counted("{} picture(s) have no label", ["a.jpg", "b.jpg"])  # ["2 picture(s) have no label, e.g. a.jpg"]
    """
    examples = sorted(found)
    return [f"{what.format(len(examples))}, e.g. {examples[0]}"] if examples else []


def single(names: Iterable[str], where: str) -> tuple[str, ...]:
    """The names, each of which may occur once. Raises DataError for a class that is named twice."""
    counts = Counter(names)
    for name, times in counts.items():
        if times > 1:
            raise DataError(f"{where} names the class {name!r} twice", "Give each class its own name")
    return tuple(counts)


def plausible(*numbers: float) -> bool:
    """Whether these can be pixel coordinates: finite, and not larger than any image."""
    return all(abs(number) < MAX_COORDINATE for number in numbers)  # False for NaN


def has_area(obj: LabelledObject, min_side: float) -> bool:
    """Whether both sides of a box are greater than `min_side`."""
    x1, y1, x2, y2 = obj.box
    return x2 - x1 > min_side and y2 - y1 > min_side


class _GroundTruthReader:
    """Turns annotations into ground truth; stops at a bad box, or fixes and counts it."""

    def __init__(self, bad_boxes: BadBoxes) -> None:
        self.bad_boxes = bad_boxes
        self.dropped: list[str] = []
        self.clipped: list[str] = []

    def ground_truth(self, image: LabelledImage, order: Mapping[str, int]) -> GroundTruth:
        kept = [(obj, box) for obj in image.objects if (box := self._fixed(image, obj)) is not None]
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

    def _fixed(self, image: LabelledImage, obj: LabelledObject) -> Corners | None:
        x1, y1, x2, y2 = obj.box
        width, height = image.size or (math.inf, math.inf)
        where = f"{image.source}: {obj.written}"
        if not has_area(obj, image.min_side) or x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
            if self.bad_boxes == "error":
                raise DataError(
                    f"{where} has no area inside its image", "Correct it, or drop such boxes with --bad-boxes fix"
                )
            self.dropped.append(where)
            return None
        if min(x1, y1) < -_TOLERANCE or x2 > width + _TOLERANCE or y2 > height + _TOLERANCE:
            if self.bad_boxes == "error":
                counted = " (VOC counts pixels from 1)" if image.min_side else ""
                raise DataError(
                    f"{where} reaches outside its image{counted}",
                    "Correct it, or clip such boxes with --bad-boxes fix",
                )
            self.clipped.append(where)
        return max(x1, 0.0), max(y1, 0.0), min(x2, width), min(y2, height)

    def notes(self) -> list[str]:
        notes = []
        if self.dropped:
            notes.append(f"dropped {len(self.dropped)} box(es) without area, e.g. {self.dropped[0]}")
        if self.clipped:
            notes.append(f"clipped {len(self.clipped)} box(es) to their image, e.g. {self.clipped[0]}")
        return notes
