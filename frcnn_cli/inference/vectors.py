"""Vectors of boxes, from one format to another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from frcnn_cli.core.decoding import read_ref
from frcnn_cli.core.errors import FileFormatError, MismatchError, UsageError
from frcnn_cli.core.image import ImageRecord, ImageRef
from frcnn_cli.core.names import FileNames
from frcnn_cli.core.progress import SILENT, Bar, Progress
from frcnn_cli.detections.vectors.box_vectors import BoxVectors, checked_key, from_columns
from frcnn_cli.detections.vectors.formats import VECTOR_FORMATS
from frcnn_cli.store.schema import VECTORS
from frcnn_cli.store.stage import open_stage
from frcnn_cli.store.writer import StageWriter


def convert_vectors(
    file: Path,
    source: str,
    output: Path,
    target: str,
    refs: Sequence[ImageRef] | None = None,
    *,
    force: bool = False,
    progress: Progress = SILENT,
) -> tuple[int, int]:
    """Reads vectors in one format and writes them in another; returns the numbers of images and boxes.

    Args:
        source, target: "h5", or one of `VECTOR_FORMATS`.
        refs: the images, for "h5".

    Raises:
        MismatchError: an image of the file is not among `refs`. FrcnnError: a file cannot be read or written.
    """
    for name in (source, target):
        if name != "h5" and name not in VECTOR_FORMATS:
            raise UsageError(f"there is no format {name!r} of vectors", f"Name one of h5, {', '.join(VECTOR_FORMATS)}")
    counts = [0, 0]
    seen: set[str] = set()

    def counted(images: Iterable[BoxVectors], bar: Bar) -> Iterator[BoxVectors]:
        for image in images:
            if image.key in seen:
                raise FileFormatError(f"{file} names the image {image.key!r} twice", "Name each image once")
            seen.add(image.key)
            counts[0], counts[1] = counts[0] + 1, counts[1] + len(image)
            yield image
            bar.advance()

    if target == "h5":
        every = VECTOR_FORMATS[source].read(file)
        with progress.task("vectors", len(refs or ())) as bar:
            _write_h5(counted(every, bar), refs or (), file, source, output, force)
    else:
        with progress.task("vectors", _count(file, source)) as bar:
            images = read_h5(file) if source == "h5" else VECTOR_FORMATS[source].read(file)
            VECTOR_FORMATS[target].write(counted(images, bar), output)
    return counts[0], counts[1]


def read_h5(path: str | Path) -> Iterator[BoxVectors]:
    """The images of a file of vectors, one after the other. Raises FrcnnError if it cannot be read."""
    with open_stage(path, VECTORS) as file:
        for image, columns in file:
            yield from_columns(columns, checked_key(image.key, path), image.height, image.width)


def _count(path: Path, source: str) -> int:
    if source != "h5":
        return 1
    with open_stage(path, VECTORS) as file:
        return len(file)


def _write_h5(
    images: Iterable[BoxVectors], refs: Sequence[ImageRef], file: Path, source: str, output: Path, force: bool
) -> None:
    by_path = {str(ref.location): ref for ref in refs}
    names = FileNames(by_path)
    by_key = {ref.key: ref for ref in refs}
    provenance = {"classes": [], "from": {"path": str(file), "format": source}}
    length: int | None = None
    without: list[tuple[ImageRecord, BoxVectors]] = []
    written: dict[str, str] = {}
    with StageWriter(output, VECTORS, provenance, force) as out:
        for image in images:
            record = _record_of(image, by_key.get(image.key) or by_path.get(names.find(image.key) or ""), file)
            if record.key in written:
                twice = f"{file} names {image.key!r} and {written[record.key]!r}, which are the same image"
                raise FileFormatError(twice, "Name each image once")
            written[record.key] = image.key
            if not len(image):  # how long the vectors are is known from the other images only
                without.append((record, image))
                continue
            if length not in (None, image.vectors.shape[1]):
                differ = f"{file} has vectors of {length} and of {image.vectors.shape[1]} numbers ({image.key!r})"
                raise FileFormatError(differ, "Compute all with the same model and layer")
            length = image.vectors.shape[1]
            # Classes and their probabilities are not stored: they are numbers of another program without names.
            out.add(record, {"boxes": image.boxes, "vectors": image.vectors})
        for record, image in without:
            out.add(record, {"boxes": image.boxes, "vectors": np.zeros((0, length or 1), np.float32)})
        out.finish()


def _record_of(image: BoxVectors, ref: ImageRef | None, file: Path) -> ImageRecord:
    """The image that vectors belong to. Raises MismatchError if there is none, or one of another size."""
    if ref is None:
        raise MismatchError(f"{file} has vectors for {image.key!r}, which is not among the images", "Correct --data")
    record = read_ref(ref).record
    if image.height and (image.height, image.width) != (record.height, record.width):
        stated = f"{file} states {image.width} x {image.height} pixels for {image.key!r}"
        raise MismatchError(
            f"{stated}, but the image has {record.width} x {record.height}",
            "Name the images for which the vectors were computed",
        )
    return record
