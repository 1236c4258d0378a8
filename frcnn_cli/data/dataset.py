"""A data set: class names, and images with their ground truth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from frcnn_cli.annotations import GroundTruth
from frcnn_cli.boxes import area, clip
from frcnn_cli.errors import DataError
from frcnn_cli.image import ImageRecord, ImageRef


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

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def refs(self) -> list[ImageRef]:
        return [sample.ref for sample in self.samples]

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
            fitted = GroundTruth(fitting[kept], truth.labels[kept], truth.difficult[kept])
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
            return GroundTruth(truth.boxes[kept], labels[kept], truth.difficult[kept])

        samples = tuple(replace(sample, truth=relabel(sample.truth)) for sample in self.samples)
        return replace(self, classes=names, samples=samples)
