"""A data set: class names, and images with their ground truth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from frcnn_cli.annotations import GroundTruth
from frcnn_cli.boxes import area, clip
from frcnn_cli.errors import DataError
from frcnn_cli.image import ImageRecord, ImageRef

T = TypeVar("T")


@dataclass(frozen=True)
class Sample:
    """One image of a data set and the objects in it."""

    ref: ImageRef
    truth: GroundTruth


@dataclass(frozen=True)
class Dataset:
    """Labelled images. `classes` are in the order that labels count in; `samples` are sorted by key."""

    name: str
    split: str
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = ()  # what was mended on reading, to be shown to the user
    image_ids: Mapping[int, str] = field(default_factory=dict)  # COCO's number of an image -> its key
    categories: Mapping[int, str] = field(default_factory=dict)  # COCO's number of a class -> its name

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def refs(self) -> list[ImageRef]:
        return [sample.ref for sample in self.samples]

    @property
    def category_ids(self) -> dict[int, int]:
        """The label of each of COCO's numbers of a class; without COCO, of 1, 2, ..."""
        named = self.categories or dict(enumerate(self.classes, 1))
        return {number: self.classes.index(name) for number, name in named.items() if name in self.classes}

    @property
    def numbered(self) -> Mapping[int, str]:
        """COCO's number of each image; without COCO, 1, 2, ... in the order of their keys."""
        return self.image_ids or dict(enumerate(sorted(sample.ref.key for sample in self.samples), 1))

    def only_of(self, found: Mapping[str, T], where: str) -> dict[str, T]:
        """What was found in the images of this data set.

        Raises:
            DataError: an image that is not of it.
        """
        known = {sample.ref.key for sample in self.samples}
        for key in found:
            if key not in known:
                raise DataError(
                    f"{where} has detections in {key!r}, which is not an image of {self.name} {self.split}",
                    "Name the split that it was made from with --split",
                )
        return dict(found)

    def within(self, pictures: Iterable[ImageRecord], bad_boxes: str) -> Dataset:
        """The same objects, held against the real sizes of their pictures, one record a sample.

        An annotation may tell no size, or a wrong one. `bad_boxes` "fix" cuts boxes to their picture.

        Raises:
            DataError: with "error", a box that reaches outside its picture.
        """
        samples = []
        for sample, picture in zip(self.samples, pictures, strict=True):
            truth = sample.truth
            fitting = clip(truth.boxes, picture.height, picture.width)
            outside = np.flatnonzero((fitting != truth.boxes).any(axis=1))
            if len(outside) and bad_boxes == "error":
                corners = " ".join(f"{v:g}" for v in truth.boxes[outside[0]])
                size = f"{picture.width} x {picture.height}"
                raise DataError(
                    f"{sample.ref.key}: the box {corners} reaches outside its picture of {size}",
                    "Correct the annotation, or cut such boxes to the image with --bad-boxes fix",
                )
            kept = area(fitting) > 0 if len(outside) else np.ones(len(truth), bool)
            fitted = replace(truth, boxes=fitting).where(kept)
            samples.append(replace(sample, truth=fitted))
        return replace(self, samples=tuple(samples))

    def with_classes(self, names: Iterable[str]) -> Dataset:
        """The same images with labels that count in `names`; objects of other classes are left out.

        Raises:
            DataError: a name that no object of the data set has.
        """
        names = tuple(names)
        unknown = [name for name in names if name not in self.classes]
        if unknown:
            raise DataError(f"no object of {self.name} is a {unknown[0]!r}", f"Its classes: {', '.join(self.classes)}")
        return self.relabelled(names)

    def relabelled(self, names: tuple[str, ...]) -> Dataset:
        """`with_classes` for names that this split may lack (the model knows them, no object here is one)."""
        new_label = np.array([names.index(name) if name in names else -1 for name in self.classes], np.int64)

        def relabel(truth: GroundTruth) -> GroundTruth:
            labels = new_label[truth.labels] if len(truth) else truth.labels
            kept = labels >= 0
            return replace(truth, labels=labels).where(kept)

        samples = tuple(replace(sample, truth=relabel(sample.truth)) for sample in self.samples)
        return replace(self, classes=names, samples=samples)


def union(datasets: Sequence[Dataset]) -> Dataset:
    """All images together; labels count in all classes, sorted by name if the data sets differ in them.

    Raises:
        DataError: an image that two of them have.
    """
    if len(datasets) == 1:
        return datasets[0]
    classes = datasets[0].classes
    if any(dataset.classes != classes for dataset in datasets):
        classes = tuple(sorted({name for dataset in datasets for name in dataset.classes}))
    samples: dict[str, Sample] = {}
    for dataset in datasets:
        for sample in dataset.relabelled(classes).samples:
            if sample.ref.key in samples:
                both = f"{samples[sample.ref.key].ref.path} and {sample.ref.path}"
                raise DataError(f"two data sets have an image {sample.ref.key!r} ({both})", "Name each once")
            samples[sample.ref.key] = sample
    ordered = tuple(samples[key] for key in sorted(samples))
    name, split = ("+".join(dict.fromkeys(getattr(d, part) for d in datasets)) for part in ("name", "split"))
    notes = tuple(note for d in datasets for note in d.notes)
    return Dataset(
        name, split, classes, ordered, notes, *(_together([getattr(d, n) for d in datasets]) for n in _NUMBERS)
    )


_NUMBERS = ("image_ids", "categories")


def _together(numbers: Sequence[Mapping[int, str]]) -> dict[int, str]:
    """COCO's numbers of all, if they agree: a number that stands for two things stands for nothing."""
    found: dict[int, str] = {}
    for mine in numbers:
        if not mine or any(found.get(number, name) != name for number, name in mine.items()):
            return {}
        found |= mine
    return found
