"""A data set: class names, and images with their ground truth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from frcnn_cli.core.annotations import GroundTruth
from frcnn_cli.core.boxes import area, clip
from frcnn_cli.core.equality import ArrayRecord
from frcnn_cli.core.errors import DataError, MismatchError, listed
from frcnn_cli.core.ids import CocoId
from frcnn_cli.core.image import ImageRecord, ImageRef
from frcnn_cli.core.names import AmbiguousNameError, FileNames
from frcnn_cli.core.options import did_you_mean
from frcnn_cli.data.sizes import SizeMismatch, differs, mismatch, same_shape, to_picture

T = TypeVar("T")


@dataclass(frozen=True)
class Sample:
    """One image of a data set and its objects. size: width and height as annotated, if they are."""

    ref: ImageRef
    truth: GroundTruth
    size: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class Dataset(ArrayRecord):
    """Labelled images, `samples` sorted by key.

    classes: the names that labels index.
    notes: what was fixed on reading, to be shown to the user.
    image_ids: COCO's ID of an image -> its key. categories: COCO's ID of a class -> its name.
    title: how messages name the data set; by default its name and split.
    size_mismatch: what `within` does with an image whose size differs from the annotated size.
    """

    name: str
    split: str
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = ()
    image_ids: Mapping[CocoId, str] = field(default_factory=dict)
    categories: Mapping[CocoId, str] = field(default_factory=dict)
    title: str = field(default="", compare=False)
    size_mismatch: SizeMismatch = "error"

    def __post_init__(self) -> None:
        if not self.title:
            object.__setattr__(self, "title", f"{self.name} {self.split}".strip())

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    @property
    def refs(self) -> list[ImageRef]:
        """The images."""
        return [sample.ref for sample in self.samples]

    @property
    def truth(self) -> dict[str, GroundTruth]:
        """The objects of each image, by key."""
        return {sample.ref.key: sample.truth for sample in self.samples}

    @property
    def category_ids(self) -> dict[CocoId, int]:
        """COCO's ID of a class -> its label; without COCO, the IDs are 1, 2, ..."""
        named: Mapping[CocoId, str] = self.categories or dict(enumerate(self.classes, 1))
        return {number: self.classes.index(name) for number, name in named.items() if name in self.classes}

    @property
    def numbered(self) -> Mapping[CocoId, str]:
        """COCO's ID of an image -> its key; without COCO, the IDs are 1, 2, ... in the order of the keys."""
        return self.image_ids or dict(enumerate(sorted(sample.ref.key for sample in self.samples), 1))

    def by_key(self, found: Mapping[str, T], where: str) -> dict[str, T]:
        """Results by key. The names of their images may have an ending or folders that the keys lack.

        Raises:
            DataError: results of images that are not in this data set, or of one image under two names.
        """
        names = FileNames(sample.ref.key for sample in self.samples)
        results: dict[str, T] = {}
        unknown: list[str] = []
        for name, result in found.items():
            try:
                key = names.find(name)
            except AmbiguousNameError as error:
                raise DataError(f"{where}: {error}", "Write its key as the data set does") from None
            if key is None:
                unknown.append(name)
            elif key in results:
                raise DataError(f"{where} names the image {key!r} in two ways, e.g. {name!r}", "Write its key once")
            else:
                results[key] = result
        if unknown:
            raise DataError(
                f"{where} has detections in {len(unknown)} image(s) that {self.title} lacks, e.g. {unknown[0]!r}",
                "Name with --split the split that the detections were made from",
            )
        return results

    def lacks_objects(self, difficult: bool = False) -> str:
        """Why there is nothing to find or to learn; empty if there is.

        Args:
            difficult: whether objects marked difficult count.
        """
        objects = sum(len(sample.truth) for sample in self.samples)
        crowds = sum(int(sample.truth.crowd.sum()) for sample in self.samples)
        ignored = sum(int(sample.truth.difficult.sum()) for sample in self.samples)
        if objects == 0:
            return f"{self.title} has no objects"
        if crowds == objects:
            return f"all {objects} objects of {self.title} are crowds"
        if not difficult and ignored == objects:
            return f"all {objects} objects of {self.title} are marked difficult"
        return ""

    def within(self, pictures: Iterable[ImageRecord], bad_boxes: str) -> Dataset:
        """The same objects, checked against the actual sizes of the images, one record per sample.

        An annotation may state no size, or that of another image: the one before it was scaled, or before it was
        rotated as its EXIF orientation states. With `size_mismatch` "scale", its boxes are scaled or rotated too. With
        `bad_boxes` "fix", boxes are clipped to their image. `notes` state how many.

        Raises:
            DataError: with `size_mismatch` "error", an image of another size; with `bad_boxes` "error", a box that
                reaches outside its image.
        """
        samples, clipped, scaled, kept_as_is = [], [], [], []
        for sample, picture in zip(self.samples, pictures, strict=True):
            truth = sample.truth
            if self.size_mismatch == "keep" and differs(sample.size, picture):
                kept_as_is.append(sample.ref.key)
            elif differs(sample.size, picture):
                if self.size_mismatch == "error":
                    raise DataError(
                        f"{sample.ref.key}: {mismatch(sample.size, picture)}",
                        "Correct the annotation, convert its boxes with --size-mismatch scale, or use them as they are"
                        " with --size-mismatch keep",
                    )
                if not same_shape(sample.size, picture):
                    raise DataError(
                        f"{sample.ref.key}: {mismatch(sample.size, picture)}, which has another aspect ratio",
                        "Correct the annotation: its boxes may belong to another image",
                    )
                boxes = to_picture(truth.boxes, sample.size, picture)
                larger = area(boxes) / np.maximum(area(truth.boxes), 1e-9)
                truth = replace(truth, boxes=boxes, areas=truth.areas * larger)
                sample = replace(sample, size=(float(picture.width), float(picture.height)))
                scaled.append(sample.ref.key)
            fitting = clip(truth.boxes, picture.height, picture.width)
            outside = np.flatnonzero((fitting != truth.boxes).any(axis=1))
            if len(outside) and bad_boxes == "error":
                corners = " ".join(f"{v:g}" for v in truth.boxes[outside[0]])
                size = f"{picture.width} x {picture.height}"
                raise DataError(
                    f"{sample.ref.key}: the box {corners} reaches outside its image of {size} pixels",
                    "Correct the annotation, or clip such boxes with --bad-boxes fix",
                )
            clipped += [sample.ref.key] * len(outside)
            kept = area(fitting) > 0 if len(outside) else np.ones(len(truth), bool)
            samples.append(replace(sample, truth=replace(truth, boxes=fitting).where(kept)))
        notes = list(self.notes)
        if scaled:
            notes.append(
                f"converted the boxes of {len(scaled)} image(s) to the size of their picture, e.g. {scaled[0]}"
            )
        if kept_as_is:
            notes.append(
                f"used the boxes of {len(kept_as_is)} image(s) as they are, although the image has another size than"
                f" the one annotated, e.g. {kept_as_is[0]}"
            )
        if clipped:
            notes.append(f"clipped {len(clipped)} box(es) to the size of their image, e.g. in {clipped[0]}")
        return replace(self, samples=tuple(samples), notes=tuple(notes))

    def with_classes(self, names: Iterable[str]) -> Dataset:
        """The same images with labels that index `names`; objects of other classes are excluded.

        Raises:
            DataError: a name that is not a class of the data set.
        """
        if isinstance(names, str):
            raise ValueError(f"classes must be a list of names, not the text {names!r}")
        names = tuple(names)
        for name in names:
            if name not in self.classes:
                unknown = f"{self.title} has no class {name!r}{did_you_mean(name, self.classes)}"
                raise DataError(unknown, f"Its classes: {listed(self.classes)}")
        return self.relabelled(names)

    def relabelled(self, names: tuple[str, ...]) -> Dataset:
        """Like `with_classes`, but names that this data set lacks are allowed."""
        new_label = np.array([names.index(name) if name in names else -1 for name in self.classes], np.int64)

        def relabel(truth: GroundTruth) -> GroundTruth:
            labels = new_label[truth.labels] if len(truth) else truth.labels
            kept = labels >= 0
            return replace(truth.where(kept), labels=labels[kept])

        samples = tuple(replace(sample, truth=relabel(sample.truth)) for sample in self.samples)
        return replace(self, classes=names, samples=samples)

    def for_model(self, classes: Sequence[str]) -> Dataset:
        """The same objects with labels that index the classes of a model.

        Raises:
            MismatchError: a class that the model does not know.
        """
        for name in self.classes:
            if name not in classes:
                raise MismatchError(
                    f"{self.title} has objects of class {name!r}, which the model does not know",
                    f"Name the classes to evaluate: --classes {','.join(n for n in self.classes if n in classes)}",
                )
        return self.relabelled(tuple(classes))


def union(datasets: Sequence[Dataset]) -> Dataset:
    """All images together; labels index all classes, sorted by name if the data sets have different classes.

    Raises:
        DataError: an image that is in two of them.
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
                raise DataError(
                    f"two data sets have an image {sample.ref.key!r} ({both})",
                    "Rename one of them, or use one data set only",
                )
            samples[sample.ref.key] = sample
    name, split = ("+".join(dict.fromkeys(getattr(d, part) for d in datasets)) for part in ("name", "split"))
    return Dataset(
        name,
        split,
        classes,
        samples=tuple(samples[key] for key in sorted(samples)),
        notes=tuple(note for d in datasets for note in d.notes),
        image_ids=merged_ids([d.image_ids for d in datasets]),
        categories=merged_ids([d.categories for d in datasets]),
        size_mismatch=datasets[0].size_mismatch,
    )


def merged_ids(numbers: Sequence[Mapping[CocoId, str]]) -> dict[CocoId, str]:
    """COCO's IDs of all data sets if they agree; empty if an ID has two meanings."""
    merged: dict[CocoId, str] = {}
    for own in numbers:
        if not own or any(merged.get(number, name) != name for number, name in own.items()):
            return {}
        merged |= own
    return merged
