"""Labels in any layout -> a data set in VOC, COCO or YOLO layout, or a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from frcnn_cli.core.decoding import read_ref
from frcnn_cli.core.errors import DataError, ImageError, UsageError, listed
from frcnn_cli.core.image import ImageRecord, ImageRef
from frcnn_cli.data.dataset import Dataset, merged_ids, union
from frcnn_cli.data.formats.coco import write_coco
from frcnn_cli.data.formats.csv import write_csv
from frcnn_cli.data.formats.voc import without_slivers, write_voc
from frcnn_cli.data.formats.yolo import write_yolo
from frcnn_cli.data.labels import BadBoxes, Labels
from frcnn_cli.data.layouts import read_layout
from frcnn_cli.data.load import read_splits
from frcnn_cli.data.pairing import BadImages
from frcnn_cli.data.sizes import SizeMismatch
from frcnn_cli.data.spec import is_dataset_spec
from frcnn_cli.data.splitting import Thumbnail, split_dataset, thumbnail
from frcnn_cli.system.folders import is_empty, new_folder
from frcnn_cli.system.prefetch import prefetch

Layout = Literal["voc", "coco", "yolo", "csv"]
WRITERS = {"voc": write_voc, "coco": write_coco, "yolo": write_yolo, "csv": write_csv}


class Converted(NamedTuple):
    """The data sets that were written, one per split; by key, the errors of unreadable images, which were skipped; and
    the layouts that were recognised."""

    datasets: list[Dataset]
    skipped: Mapping[str, ImageError]
    layouts: list[str]

    @property
    def crowds(self) -> int:
        """The number of crowds, which only COCO's layout and tables can mark."""
        return sum(int(sample.truth.crowd.sum()) for dataset in self.datasets for sample in dataset.samples)

    @property
    def difficult(self) -> int:
        """The number of difficult objects, which YOLO's layout cannot mark."""
        return sum(int(sample.truth.difficult.sum()) for dataset in self.datasets for sample in dataset.samples)


def convert_labels(
    source: str | Path,
    layout: Layout,
    output: str | Path,
    images: str | Path | None = None,
    split: str | None = None,
    bad_boxes: BadBoxes = "error",
    bad_images: BadImages = "error",
    size_mismatch: SizeMismatch = "error",
    stated: Mapping[str, Any] | None = None,
    val: float = 0.0,
    test: float = 0.0,
    seed: int = 0,
) -> Converted:
    """Reads labels and writes them, with copies of the images, to a new folder, which exists only when it is complete.

        convert_labels("labels.csv", "voc", "my-data", images="photographs/", val=0.2)

    Args:
        source: labels in any layout that `read_layout` recognises, or the text that names a data set (see `spec`).
        layout: "voc", "coco", "yolo" or "csv".
        images: the folder of the images, if it is not that of the labels.
        split: convert only this split; by default all.
        bad_boxes: as in `load_dataset`.
        size_mismatch: as in `load_dataset`.
        bad_images: "error", or "skip" to leave out images that cannot be read.
        stated: what is known about the numbers in a table; see `read_csv_labels`.
        val: the fraction of the images for the split val. By default, the splits of the source are kept; with `val` or
            `test`, all other images form the split train. See `split_dataset`.
        test: likewise for the split test.
        seed: of that division.

    Raises:
        DataError: the folder is not empty, or the labels cannot be read or written in this layout.
        ImageError: with `bad_images` "error", an image that cannot be read.
    """
    source, output, images = str(source), Path(output), None if images is None else Path(images)
    if output.exists() and (output.is_file() or not is_empty(output)):
        raise DataError(f"{output} exists already", "Name a new folder")
    if not (val >= 0 and test >= 0 and val + test < 1):
        raise UsageError(f"{val:g} for val and {test:g} for test leave nothing to train on", "Use smaller fractions")
    labels = _read(source, images, stated)
    chosen = [one for one in labels if split in (None, one.split)]
    if not chosen:
        if split is None:
            raise DataError(f"{source} has no split", "Write a list of its images, e.g. ImageSets/Main/trainval.txt")
        have = listed(dict.fromkeys(one.split for one in labels))
        raise DataError(f"{source} has no split {split!r}", f"It has: {have}")
    datasets = [replace(one, size_mismatch=size_mismatch) for one in _by_split(chosen, bad_boxes)]
    datasets = _with_distinct_keys(datasets)
    refs = [sample.ref for dataset in datasets for sample in dataset.samples]
    pictures = _read_pictures(refs, bad_images, thumbnails=bool(val or test))
    datasets = [replace(d, samples=tuple(s for s in d.samples if s.ref.key in pictures.records)) for d in datasets]
    for d in datasets:
        if not len(d):
            raise DataError(f"no image of the split {d.split} can be read", "Convert another split with --split")
    datasets = [d.within([pictures.records[sample.ref.key] for sample in d.samples], bad_boxes) for d in datasets]
    if layout == "voc" and bad_boxes == "fix":
        datasets = [without_slivers(dataset) for dataset in datasets]
    if val or test:
        datasets = _divide(datasets, pictures, {"train": 1 - val - test, "val": val, "test": test}, seed)
    places = {image.ref.path: at for at, image in enumerate(image for one in chosen for image in one.images)}
    datasets = [replace(d, samples=tuple(sorted(d.samples, key=lambda s: places[s.ref.path]))) for d in datasets]
    with new_folder(output) as folder:
        WRITERS[layout](datasets, pictures.records, folder)
    layouts = list(dict.fromkeys(one.layout for one in chosen if one.layout))
    return Converted(datasets, pictures.skipped, layouts)


def _read(source: str, images: Path | None, stated: Mapping[str, Any] | None) -> list[Labels]:
    if is_dataset_spec(source) and not Path(source).exists():
        for option, given in (("--images", images is not None), ("--order, --base, --end or --relative", bool(stated))):
            if given:
                raise UsageError(f"{option} has no effect on {source}", "Remove it, or name the folder or file itself")
        return read_splits(source)
    return read_layout(Path(source), images, stated)


def _by_split(labels: Sequence[Labels], bad_boxes: BadBoxes) -> Iterator[Dataset]:
    """One data set per split, all with the same classes and IDs of classes; splits of the same name are joined."""
    parts = [one.dataset(bad_boxes) for one in labels]
    categories = merged_ids([part.categories for part in parts])
    classes = tuple(dict.fromkeys(name for part in parts for name in part.classes))
    by_split: dict[str, list[Dataset]] = {}
    for part in parts:
        by_split.setdefault(part.split, []).append(replace(part.relabelled(classes), categories=categories))
    for datasets in by_split.values():
        yield union(datasets)


def _with_distinct_keys(datasets: Sequence[Dataset]) -> list[Dataset]:
    """The same images; if a key stands for different files in different splits, the names of the splits precede it."""
    files: dict[str, set[Path]] = {}
    for dataset in datasets:
        for sample in dataset.samples:
            files.setdefault(sample.ref.key, set()).add(sample.ref.path.resolve())
    shared = {key for key, paths in files.items() if len(paths) > 1}
    if not shared:
        return list(datasets)

    def distinct(key: str, split: str) -> str:
        return f"{split}/{key}" if key in shared else key

    return [
        replace(
            d,
            samples=tuple(replace(s, ref=ImageRef(distinct(s.ref.key, d.split), s.ref.path)) for s in d.samples),
            image_ids={number: distinct(key, d.split) for number, key in d.image_ids.items()},
        )
        for d in datasets
    ]


def _divide(datasets: Sequence[Dataset], pictures: _Pictures, shares: Mapping[str, float], seed: int) -> list[Dataset]:
    """All images, divided at random, each once; the notes of the data sets are kept."""
    once = {sample.ref.path: sample for dataset in datasets for sample in dataset.samples}
    notes = tuple(dict.fromkeys(note for dataset in datasets for note in dataset.notes))
    whole = replace(datasets[0], samples=tuple(once.values()), notes=notes, image_ids={})
    digests = {key: record.digest for key, record in pictures.records.items()}
    wanted = {split: share for split, share in shares.items() if share > 0}
    first, *others = split_dataset(whole, wanted, digests, pictures.thumbnails, seed)
    return [replace(first, notes=whole.notes), *others]


class _Pictures(NamedTuple):
    """What was read of the images, by key; skipped: the errors of those that cannot be read."""

    records: dict[str, ImageRecord]
    thumbnails: dict[str, Thumbnail]
    skipped: dict[str, ImageError]


def _read_pictures(refs: Sequence[ImageRef], bad_images: BadImages, thumbnails: bool) -> _Pictures:
    """Decodes every image completely, because the header of a truncated one is fine.

    Raises:
        ImageError: with `bad_images` "error", for the first that cannot be read.
    """

    def read(ref: ImageRef) -> tuple[ImageRecord, Thumbnail | None] | ImageError:
        try:
            image = read_ref(ref)
        except ImageError as error:
            return error
        return image.record, thumbnail(image) if thumbnails else None

    found = _Pictures({}, {}, {})
    unique = list({ref.key: ref for ref in refs}.values())
    for ref, outcome in zip(unique, prefetch(read, unique), strict=True):
        if isinstance(outcome, tuple):
            found.records[ref.key] = outcome[0]
            if outcome[1] is not None:
                found.thumbnails[ref.key] = outcome[1]
        elif bad_images == "skip":
            found.skipped[ref.key] = outcome
        else:
            raise type(outcome)(outcome.what, f"{outcome.fix}, or leave such images out with --bad-images skip")
    return found
