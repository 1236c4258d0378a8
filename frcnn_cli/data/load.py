"""Reading the data set that a text names (see `spec`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from frcnn_cli.core.errors import DataError
from frcnn_cli.core.image import ImageRecord, ImageRef
from frcnn_cli.data.dataset import Dataset, union
from frcnn_cli.data.formats.coco import read_coco_labels
from frcnn_cli.data.formats.voc import listed_keys, read_voc_images, read_voc_labels, voc_splits
from frcnn_cli.data.labels import BadBoxes, Labels
from frcnn_cli.data.spec import DEFAULT_SPLIT, named, names_its_splits, parts


def load_dataset(
    spec: str, split: str | None = None, bad_boxes: BadBoxes = "error", classes: Iterable[str] | None = None
) -> Dataset:
    """Reads a data set.

        data = load_dataset("voc:my-data", "test")

    Args:
        spec: the text that names it; see `data.spec`.
        split: by default trainval, or the only split.
        bad_boxes: "error" stops at a box without area, or that reaches outside its image; "fix" drops boxes that have
            no area or lie wholly outside, and clips the others; `notes` of the data set state how many.
        classes: use only objects of these classes; labels then index them in this order.

    Raises:
        DataError: the text names no data set, there is none, or its files are inconsistent.
        ValueError: another value of `bad_boxes`, or `classes` is a single string instead of a list.
    """
    if bad_boxes not in ("error", "fix"):
        raise ValueError(f"bad_boxes must be 'error' or 'fix', not {bad_boxes!r}")
    split = split or default_split(spec)
    dataset = union([labels.dataset(bad_boxes) for labels in load_labels(spec, split)])
    dataset = replace(dataset, title=named(spec, split))
    return dataset if classes is None else dataset.with_classes(classes)


def load_labels(spec: str, split: str) -> list[Labels]:
    """The parts of a data set as they are annotated."""
    return [
        read_coco_labels(*part.coco) if part.kind == "coco" else read_voc_labels(part.folder, part.split or split)
        for part in parts(spec)
    ]


def load_image_refs(spec: str, split: str | None = None, as_listed: bool = False) -> list[ImageRef]:
    """The images of a data set, sorted by key or in the order of its own list; annotations in VOC layout are not
    read."""
    split = split or default_split(spec)
    refs: list[ImageRef] = []
    for part in parts(spec):
        if part.kind == "coco":
            refs += [image.ref for image in read_coco_labels(*part.coco).images]
        else:
            refs += read_voc_images(part.folder, part.split or split, as_listed)
    return refs if as_listed else sorted(refs)


def default_split(spec: str, images: Iterable[ImageRecord] | None = None) -> str:
    """The split that is used if none is named.

    Args:
        images: the images of a file that is used with the data set. A split is covered if the file holds all of its
            images. Of several covered splits, the one that contains all others is used, or else trainval.

    Raises:
        DataError: several splits remain.
    """
    if names_its_splits(spec):
        return DEFAULT_SPLIT  # not used
    folders = [part.folder for part in parts(spec) if not part.split and part.kind != "coco"]
    splits = list(dict.fromkeys(name for folder in folders for name in voc_splits(folder)))
    if images is not None:
        known = {name for image in images for name in (image.key, Path(image.key).stem)}
        keys = {split: _keys(folders, split) for split in splits}
        covered = {split: own for split, own in keys.items() if own and own <= known}
        for split, own in sorted(covered.items(), key=lambda item: -len(item[1])):
            if all(other <= own for other in covered.values()):
                return split
        if covered and DEFAULT_SPLIT not in covered:
            raise DataError(
                f"the file covers several splits of {spec}: {', '.join(covered)}", "Name one of them with --split"
            )
    if DEFAULT_SPLIT in splits or not splits:
        return DEFAULT_SPLIT
    if len(splits) == 1:
        return splits[0]
    raise DataError(f"{spec} has no split {DEFAULT_SPLIT!r}", f"Name one with --split: {', '.join(splits)}")


def _keys(folders: Iterable[Path], split: str) -> set[str]:
    """The images of a split."""
    return {key for folder in folders if split in voc_splits(folder) for key in listed_keys(folder, [split])}


def splits_of(spec: str) -> list[str]:
    """The splits of a data set; for COCO, the single split that the file represents."""
    found: dict[str, None] = {}
    for part in parts(spec):
        if part.split:
            found[part.split] = None
        elif part.kind == "coco":
            found[read_coco_labels(*part.coco).split] = None
        else:
            found |= dict.fromkeys(voc_splits(part.folder))
    return list(found)


def read_splits(spec: str) -> tuple[list[Labels], list[Path], list[DataError]]:
    """All splits as they are annotated, the folders in VOC layout, and the errors of images that were skipped."""
    found: list[Labels] = []
    folders: list[Path] = []
    problems: list[DataError] = []
    for part in parts(spec):
        if part.kind == "coco":
            found.append(read_coco_labels(*part.coco))
            continue
        if not part.folder.is_dir():
            raise DataError(f"{part.folder} is not a folder", "Name a folder in VOC layout")
        folders.append(part.folder)
        names = [part.split] if part.split else voc_splits(part.folder)
        found += [read_voc_labels(part.folder, name, problems) for name in names]
    return found, folders, problems
