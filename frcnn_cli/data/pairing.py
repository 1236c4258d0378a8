"""Data sets paired with the files of stages: the same images, matched by key and content."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from frcnn_cli.core.annotations import Detections, GroundTruth
from frcnn_cli.core.boxes import Boxes
from frcnn_cli.core.decoding import identify, read_ref
from frcnn_cli.core.equality import ArrayRecord
from frcnn_cli.core.errors import FrcnnError, FrcnnWarning, ImageError, MismatchError
from frcnn_cli.core.ids import CocoId
from frcnn_cli.core.image import ImageRecord, ImageRef
from frcnn_cli.data.dataset import Dataset
from frcnn_cli.store.join import Lookup, check_complete, join
from frcnn_cli.store.reader import StageFile
from frcnn_cli.store.schema import DETECTIONS
from frcnn_cli.store.stage import open_stage
from frcnn_cli.system.prefetch import prefetch

BadImages = Literal["error", "skip"]
_MAX_RATIO = 3.0  # of the extent of detections and objects on the same images
_OUTSIDE = 1.2  # times the size of the image: a detection that reaches further is far outside
_SKIP = "leave them out with --bad-images skip"


@dataclass(frozen=True, eq=False)
class ProposedSample(ArrayRecord):
    """One labelled image with its proposals, float32 [N, 4], best first."""

    ref: ImageRef
    truth: GroundTruth
    proposals: Boxes


class Pairing(NamedTuple):
    """A data set whose boxes were checked against the image sizes in a file; for each sample, its row in that file and
    its content hash.

    skipped: by key, the errors of unreadable images, which were skipped.
    """

    dataset: Dataset
    rows: list[int]
    digests: list[str]
    skipped: Mapping[str, FrcnnError]


def identify_all(refs: Iterable[ImageRef]) -> list[ImageRecord]:
    """Key and content hash of each image; height and width are 0. Raises ImageError for a file that cannot be read."""
    return list(prefetch(identify, refs, threads=4, ahead=16))


def pair(dataset: Dataset, file: StageFile, bad_boxes: str = "error", bad_images: BadImages | None = None) -> Pairing:
    """Finds the images of a data set in a file.

    Args:
        bad_images: "skip" leaves out images that the file lacks because they cannot be read; "error" stops, and the
            message mentions --bad-images skip; None: like "error", without that advice.

    Raises:
        MismatchError: the file lacks an image, or holds another image under its key.
        DataError: with `bad_boxes` "error", a box that reaches outside its image.
    """
    refs, lookup, name = dataset.refs, Lookup(file.images, str(file.path)), str(file.path)
    or_else = _SKIP if bad_images else "remove them from the split"
    skipped: dict[str, FrcnnError] = {}

    def find(some: Sequence[ImageRef]) -> dict[str, tuple[int, str]]:
        """By key, row and content hash of each of these images that the file contains."""
        found, absent = {}, []
        for ref, record in zip(some, prefetch(_identified, some, threads=4, ahead=16), strict=True):
            if isinstance(record, ImageError):
                if bad_images != "skip":
                    raise record
                skipped[ref.key] = record
                continue
            row = lookup.find(record, dataset.title)
            if row is not None:
                found[ref.key] = row, record.digest
            elif bad_images == "skip" and (error := _unreadable(ref)) is not None:
                skipped[ref.key] = error
            else:
                absent.append(ref.key)
        check_complete(absent, len(refs), dataset.title, name, or_else)
        return found

    # Images whose names the file lacks come first: if it lacks one, this is noticed before all others are read.
    unknown = _of_unknown_name(refs, file)
    found = find(unknown) if len(unknown) < len(refs) else {}
    found |= find([ref for ref in refs if ref.key not in found and ref.key not in skipped])
    dataset = replace(dataset, samples=tuple(sample for sample in dataset.samples if sample.ref.key in found))
    rows, digests = [found[ref.key][0] for ref in dataset.refs], [found[ref.key][1] for ref in dataset.refs]
    fitted = dataset.within([file.images[row] for row in rows], bad_boxes)
    for note in fitted.notes[len(dataset.notes) :]:
        warnings.warn(FrcnnWarning(note), stacklevel=2)
    return Pairing(fitted, rows, digests, skipped)


def check_names(refs: Sequence[ImageRef], title: str, file: StageFile) -> None:
    """What `pair` notices first, as a check of its own: reads only those images whose names the file lacks.

    Raises:
        MismatchError: the file lacks an image.
    """
    unknown = _of_unknown_name(refs, file)
    if len(unknown) < len(refs):
        lookup = Lookup(file.images, str(file.path))
        absent = [ref.key for ref in unknown if lookup.find(identify(ref), title) is None]
        check_complete(absent, len(refs), title, str(file.path), _SKIP)


def _of_unknown_name(refs: Sequence[ImageRef], file: StageFile) -> list[ImageRef]:
    """The images whose names are not in the file. It may still have them, under another name."""
    names = {known for image in file.images for known in _names(image.key)}
    return [ref for ref in refs if not names & _names(ref.key)]


def _identified(ref: ImageRef) -> ImageRecord | ImageError:
    try:
        return identify(ref)
    except ImageError as error:
        return error


def _names(key: str) -> set[str]:
    return {key, Path(key).name, Path(key).stem}


def _unreadable(ref: ImageRef) -> ImageError | None:
    """The error of an image that cannot be decoded."""
    try:
        read_ref(ref)
    except ImageError as error:
        return error
    return None


def proposed_samples(pairing: Pairing, file: StageFile) -> list[ProposedSample]:
    """The samples with their proposals from the proposals file that they were paired with."""
    return [
        ProposedSample(sample.ref, sample.truth, file[row]["boxes"])
        for sample, row in zip(pairing.dataset.samples, pairing.rows, strict=True)
    ]


class PairedDetections(NamedTuple):
    """Objects and detections of the same images, by key of the data set, and the images as the file names them."""

    dataset: Dataset
    detections: dict[str, Detections]
    images: dict[str, ImageRecord]
    notes: tuple[str, ...] = ()

    def doubts(self) -> list[str]:
        """What makes an evaluation doubtful, as text for the user."""
        notes = [f"{lacking}, so there is nothing to find"] if (lacking := self.dataset.lacks_objects()) else []
        notes += self.notes
        sized = [(s.size, self.detections[s.ref.key].boxes) for s in self.dataset.samples if s.size is not None]
        outside = sum(int((boxes[:, 2:] > _OUTSIDE * np.array(size)).any(axis=1).sum()) for size, boxes in sized)
        if outside > 0.2 * sum(len(boxes) for _, boxes in sized):
            notes.append(
                f"{outside} detections reach far outside their images: are their numbers in the format's order"
                " (COCO: x y w h, VOC: xmin ymin xmax ymax)?"
            )
        extents = [
            (float(found.boxes.max()), float(sample.truth.boxes.max()))
            for sample in self.dataset.samples
            if len(found := self.detections[sample.ref.key]) and len(sample.truth)
        ]
        if extents:
            ratio = float(np.median([mine / theirs for mine, theirs in extents if theirs > 0] or [1.0]))
            if not 1 / _MAX_RATIO < ratio < _MAX_RATIO:
                notes.append(
                    f"the boxes of the detections reach {ratio:.2g} times as far as those of the objects: their"
                    " coordinates may belong to images of another size"
                )
        return notes


def pair_results(
    dataset: Dataset, found: Mapping[str, Detections], where: str, classes: Sequence[str] | None = None
) -> PairedDetections:
    """A data set and the detections of result files, which omit images without detections.

    Args:
        found: by the name that the files give to each image. where: the files, for messages.
        classes: evaluate only these.

    Raises:
        DataError: an image that the data set lacks.
    """
    nothing = Detections([], [], [], dataset.classes)  # type: ignore[arg-type]
    results = dataset.by_key(found, where)
    every = {ref.key: results.get(ref.key, nothing) for ref in dataset.refs}
    lacking = len(every) - len(results)
    notes = (f"{lacking} of the {len(every)} images have no detections in {where}",) if lacking else ()
    if classes is None or tuple(classes) == dataset.classes:
        return PairedDetections(dataset, every, {}, notes)
    some = dataset.with_classes(classes)
    return PairedDetections(some, {key: one.of_classes(some.classes) for key, one in every.items()}, {}, notes)


def pair_detections(dataset: Dataset, path: Path, bad_boxes: str = "error") -> PairedDetections:
    """A data set and the detections of a detections file; labels index the classes of the file.

    Raises:
        MismatchError: objects of a class that the file does not know, or images that it lacks.
    """
    with open_stage(path, DETECTIONS) as file:
        pairing = pair(dataset.for_model(file.classes), file, bad_boxes)
        keys = [sample.ref.key for sample in pairing.dataset.samples]
        found, images = {}, {}
        for key, row in zip(keys, pairing.rows, strict=True):
            arrays = file[row]
            found[key] = Detections(arrays["boxes"], arrays["scores"], arrays["labels"], file.classes)
            images[key] = file.images[row]
        return PairedDetections(pairing.dataset, found, images)


def coco_ids(dataset: Dataset, file: StageFile) -> tuple[dict[str, CocoId], list[CocoId]]:
    """COCO's ID of each image in a detections file, by key, and of each of its classes, as the data set numbers
    them.

    Raises:
        MismatchError: the data set lacks an image or a class of the file.
    """
    fix = "Name the data set of these images"
    rows = join(identify_all(dataset.refs), file.images, dataset.title, str(file.path))
    keys = {ref.key: file.images[row].key for ref, row in zip(dataset.refs, rows, strict=True)}
    images = {keys[key]: number for number, key in dataset.image_ids.items()}
    for image in file.images:
        if image.key not in images:
            raise MismatchError(f"{file.path} has an image {image.key!r} that {dataset.title} lacks", fix)
    numbers = {name: number for number, name in dataset.categories.items()}
    for name in file.classes:
        if name not in numbers:
            raise MismatchError(f"{file.path} has a class {name!r} that {dataset.title} lacks", fix)
    return images, [numbers[name] for name in file.classes]
