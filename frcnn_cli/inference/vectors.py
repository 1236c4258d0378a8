"""Vectors of boxes, from one format to another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from frcnn_cli.core.decoding import read_ref
from frcnn_cli.core.errors import MismatchError, UsageError
from frcnn_cli.core.image import ImageRef
from frcnn_cli.core.names import FileNames
from frcnn_cli.core.progress import SILENT, Bar, Progress
from frcnn_cli.detections.vectors.box_vectors import BoxVectors, from_columns, to_columns
from frcnn_cli.detections.vectors.formats import VECTOR_FORMATS
from frcnn_cli.store.reader import StageFile
from frcnn_cli.store.schema import VECTORS
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

    def counted(images: Iterable[BoxVectors], bar: Bar) -> Iterator[BoxVectors]:
        for image in images:
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
    with StageFile(path, VECTORS) as file:
        for image, columns in file:
            yield from_columns(columns, image.key, image.height, image.width)


def _count(path: Path, source: str) -> int:
    if source != "h5":
        return 1
    with StageFile(path, VECTORS) as file:
        return len(file)


def _write_h5(
    images: Iterable[BoxVectors], refs: Sequence[ImageRef], file: Path, source: str, output: Path, force: bool
) -> None:
    by_path = {str(ref.path): ref for ref in refs}
    names = FileNames(by_path)
    by_key = {ref.key: ref for ref in refs}
    provenance = {"classes": [], "from": {"path": str(file), "format": source}}
    with StageWriter(output, VECTORS, provenance, force) as out:
        for image in images:
            path = names.find(image.key)
            ref = by_key.get(image.key) or (by_path.get(path) if path is not None else None)
            if ref is None:
                raise MismatchError(
                    f"{file} has vectors for {image.key!r}, which is not among the images",
                    "Name its images with --data",
                )
            record = read_ref(ref).record
            if image.height and (image.height, image.width) != (record.height, record.width):
                raise MismatchError(
                    f"{file} states {image.width} x {image.height} pixels for {image.key!r}, but the image has"
                    f" {record.width} x {record.height}",
                    "Name the images for which the vectors were computed",
                )
            columns = to_columns(image)
            columns.pop("labels", None)  # numbers of classes of another program, which the file does not name
            out.add(record, columns)
        out.finish()
