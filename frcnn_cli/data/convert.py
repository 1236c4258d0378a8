"""Labels in any format -> a data set in VOC or COCO layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

from frcnn_cli.core.decoding import read_record, read_ref
from frcnn_cli.core.errors import DataError, ImageError, UsageError
from frcnn_cli.core.find import images_below
from frcnn_cli.core.image import ImageRecord, ImageRef
from frcnn_cli.data.dataset import Dataset, union
from frcnn_cli.data.formats.coco import write_coco
from frcnn_cli.data.formats.csv import read_csv_labels
from frcnn_cli.data.formats.voc import without_slivers, write_voc
from frcnn_cli.data.formats.yolo import read_yolo_labels
from frcnn_cli.data.labels import BadBoxes
from frcnn_cli.data.load import read_splits
from frcnn_cli.data.pairing import BadImages
from frcnn_cli.data.spec import is_dataset_spec
from frcnn_cli.system.folders import is_empty, new_folder
from frcnn_cli.system.prefetch import prefetch

Layout = Literal["voc", "coco"]
WRITERS = {"voc": write_voc, "coco": write_coco}


class Converted(NamedTuple):
    """The data sets that were written, one per split; images below the folder that no label names; and by
    key, the errors of unreadable images, which were left out."""

    datasets: list[Dataset]
    unnamed: list[str]
    skipped: Mapping[str, ImageError]

    @property
    def crowds(self) -> int:
        """The number of crowds, which VOC layout marks as difficult."""
        return sum(int(sample.truth.crowd.sum()) for dataset in self.datasets for sample in dataset.samples)


def convert_labels(
    source: str,
    layout: Layout,
    output: Path,
    images: Path | None = None,
    split: str | None = None,
    bad_boxes: BadBoxes = "error",
    bad_images: BadImages = "error",
) -> Converted:
    """Reads labels and writes them, with copies of the images, to a new folder, which exists only when it is complete.

    Args:
        source: a .csv, a folder in YOLO's layout, or the text that names a data set (see `spec`).
        layout: "voc" or "coco".
        images: the folder of the images of a .csv.
        split: convert only this split; by default all.
        bad_boxes: as in `load_dataset`.
        bad_images: "error", or "skip" to leave out images that cannot be read.

    Raises:
        DataError: the folder is not empty, or the labels cannot be read or written in this layout.
        ImageError: with `bad_images` "error", an image that cannot be read.
    """
    if output.exists() and (output.is_file() or not is_empty(output)):
        raise DataError(f"{output} exists already", "Name a new folder")
    datasets, unnamed = _read(source, images, split, bad_boxes)
    if not datasets:
        if split is None:
            raise DataError(f"{source} has no split", "Write a list of its images, e.g. ImageSets/Main/trainval.txt")
        raise DataError(f"{source} has no split {split!r}", "Convert all splits: leave --split out")
    refs = [sample.ref for dataset in datasets for sample in dataset.samples]
    sizes, skipped = _read_pictures(refs, bad_images)
    datasets = [replace(d, samples=tuple(s for s in d.samples if s.ref.key in sizes)) for d in datasets]
    for d in datasets:
        if not len(d):
            raise DataError(f"no image of the split {d.split} can be read", "Convert another split with --split")
    datasets = [d.within([sizes[sample.ref.key] for sample in d.samples], bad_boxes) for d in datasets]
    if layout == "voc" and bad_boxes == "fix":
        datasets = [without_slivers(dataset) for dataset in datasets]
    with new_folder(output) as folder:
        WRITERS[layout](datasets, sizes, folder)
    return Converted(datasets, unnamed, skipped)


def _read_pictures(
    refs: Sequence[ImageRef], bad_images: BadImages
) -> tuple[dict[str, ImageRecord], dict[str, ImageError]]:
    """The records of the images that can be read, and the errors of the others, by key.

    Raises:
        ImageError: with `bad_images` "error", for the first that cannot be read.
    """
    found, skipped = {}, {}
    for ref, outcome in zip(refs, prefetch(_record_or_error, refs), strict=True):
        if isinstance(outcome, ImageRecord):
            found[ref.key] = outcome
        elif bad_images == "skip":
            skipped[ref.key] = outcome
        else:
            raise type(outcome)(outcome.what, f"{outcome.fix}, or leave such images out with --bad-images skip")
    return found, skipped


def _record_or_error(ref: ImageRef) -> ImageRecord | ImageError:
    """Decodes the whole image, because the header of a truncated one is fine."""
    try:
        return read_ref(ref).record
    except ImageError as error:
        return error


_UNKNOWN_SIZE = 1 << 20  # larger than any image, so that its boxes are read


def _header(ref: ImageRef) -> ImageRecord:
    """The record of an image. One that cannot be read gets an unknown size; that matters only if a label names it."""
    try:
        return read_record(ref)
    except ImageError:
        return ImageRecord(ref.key, _UNKNOWN_SIZE, _UNKNOWN_SIZE, "")


def _read(source: str, images: Path | None, split: str | None, bad_boxes: BadBoxes) -> tuple[list[Dataset], list[str]]:
    path = Path(source)
    if is_dataset_spec(source) and not path.exists():
        return list(_read_dataset(source, split, bad_boxes)), []
    if not path.exists():
        raise DataError(f"{path} does not exist", "Name a .csv, a folder in YOLO's layout, or voc:DIR")
    is_table = path.is_file()
    if is_table and images is None:
        raise UsageError(f"{path} does not state where its images are", "Add --images DIR, the folder of its images")
    folder = images if is_table and images is not None else path
    if not folder.is_dir():
        fix = "Name the folder of the images" if is_table else "Name a .csv, a folder in YOLO's layout, or voc:DIR"
        raise DataError(f"{folder} is not a folder", fix)
    if (folder / "Annotations").is_dir() and not is_table:
        raise DataError(f"{folder} is in VOC layout", f"Write voc:{folder}")
    records = {record.key: record for record in prefetch(_header, images_below(folder))}
    labels = read_csv_labels(path, folder, records) if is_table else read_yolo_labels(path, records)
    unnamed = set(records) - {image.ref.key for one in labels for image in one.images} if is_table else set()
    return [one.dataset(bad_boxes) for one in labels if split in (None, one.split)], sorted(unnamed)


def _read_dataset(spec: str, split: str | None, bad_boxes: BadBoxes) -> Iterator[Dataset]:
    labels, _, problems = read_splits(spec)
    if problems:
        raise problems[0]
    by_split: dict[str, list[Dataset]] = {}
    for one in labels:
        if split not in (None, one.split):
            continue
        by_split.setdefault(one.split, []).append(one.dataset(bad_boxes))
    for datasets in by_split.values():
        yield union(datasets)
