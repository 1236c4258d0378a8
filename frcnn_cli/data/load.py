"""Reading the data set that a text names (see `spec`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import get_args

from frcnn_cli.core.errors import DataError, listed
from frcnn_cli.core.image import ImageRecord, ImageRef
from frcnn_cli.core.splits import DEFAULT_SPLIT
from frcnn_cli.data.dataset import Dataset, union
from frcnn_cli.data.formats.coco import read_coco_labels
from frcnn_cli.data.formats.voc import read_voc_images, read_voc_labels, voc_splits
from frcnn_cli.data.formats.voc_tree import VocTree
from frcnn_cli.data.labels import BadBoxes, Labels, Problems, joined
from frcnn_cli.data.layouts import read_layout
from frcnn_cli.data.sizes import SizeMismatch
from frcnn_cli.data.spec import Part, named, names_its_splits, parts


def load_dataset(
    spec: str,
    split: str | None = None,
    bad_boxes: BadBoxes = "error",
    classes: Iterable[str] | None = None,
    size_mismatch: SizeMismatch = "error",
    pictures: bool = True,
) -> Dataset:
    """Reads a data set.

        data = load_dataset("voc:my-data", "test")

    Args:
        spec: the text that names it; see `data.spec`.
        split: by default trainval, or the only split.
        bad_boxes: "error" stops at a box without area, or that reaches outside its image; "fix" drops boxes that have
            no area or lie wholly outside, and clips the others; `notes` of the data set state how many.
        classes: use only objects of these classes; labels then index them in this order.
        size_mismatch: images whose size differs from the annotated size, which is noticed when the data set is joined
            with its images: "error" stops, "scale" scales the boxes to the image, or rotates them if EXIF rotated it,
            and "keep" uses the boxes as they are.
        pictures: False if only the annotations are needed: the images of COCO's files may then be absent.

    Raises:
        DataError: the text names no data set, there is none, or its files are inconsistent.
        ValueError: another value of `bad_boxes` or `size_mismatch`, or `classes` is a single string instead of a list.
    """
    for name, value, choices in (("bad_boxes", bad_boxes, BadBoxes), ("size_mismatch", size_mismatch, SizeMismatch)):
        if value not in get_args(choices):
            raise ValueError(f"{name} must be {' or '.join(map(repr, get_args(choices)))}, not {value!r}")
    split = split or default_split(spec)
    dataset = union([labels.dataset(bad_boxes) for labels in load_labels(spec, split, pictures)])
    dataset = replace(dataset, title=named(spec, split), size_mismatch=size_mismatch)
    return dataset if classes is None else dataset.with_classes(classes)


def load_labels(spec: str, split: str, pictures: bool = True) -> list[Labels]:
    """The parts of a data set as they are annotated."""
    return [_part_labels(part, part.split or split, pictures) for part in parts(spec)]


def _part_labels(part: Part, split: str, pictures: bool = True, problems: Problems | None = None) -> Labels:
    if part.kind == "coco":
        annotations, folder = part.coco
        if pictures and folder is None:
            raise DataError(f"coco:{annotations} does not name the folder of its images", "Write coco:JSON:FOLDER")
        labels = read_coco_labels(annotations, folder if pictures else None, problems)
        if part.split not in (None, labels.split):
            raise DataError(f"{annotations} has no split {part.split!r}", f"The file is the split {labels.split}")
        return labels
    if part.kind.startswith("voc"):
        return read_voc_labels(part.folder, split)
    every = read_layout(*part.labels)
    found = [labels for labels in every if labels.split == split]
    if found:
        return joined(found)
    have = listed(dict.fromkeys(labels.split for labels in every))
    raise DataError(f"{part.labels[0]} has no split {split!r}", f"It has: {have}")


def load_image_refs(spec: str, split: str | None = None, as_listed: bool = False) -> list[ImageRef]:
    """The images of a data set, sorted by key or in the order of its own list; annotations in VOC layout are not
    read."""
    split = split or default_split(spec)
    refs: list[ImageRef] = []
    for part in parts(spec):
        if part.kind in ("coco", "labels"):
            refs += [image.ref for image in _part_labels(part, part.split or split).images]
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
    open_parts = [part for part in parts(spec) if not part.split and part.kind != "coco"]
    keys: dict[str, set[str]] = {}
    for part in open_parts:
        for name, own in _keys(part, with_images=images is not None).items():
            keys.setdefault(name, set()).update(own)
    if images is not None:
        known = {name for image in images for name in (image.key, Path(image.key).stem)}
        covered = {split: own for split, own in keys.items() if own and own <= known}
        for split, own in sorted(covered.items(), key=lambda item: -len(item[1])):
            if all(other <= own for other in covered.values()):
                return split
        if covered and DEFAULT_SPLIT not in covered:
            raise DataError(
                f"the file covers several splits of {spec}: {listed(covered)}", "Name one of them with --split"
            )
    if DEFAULT_SPLIT in keys or not keys:
        return DEFAULT_SPLIT
    if len(keys) == 1:
        return next(iter(keys))
    raise DataError(f"{spec} has no split {DEFAULT_SPLIT!r}", f"Name one with --split: {listed(keys)}")


def _keys(part: Part, with_images: bool) -> dict[str, set[str]]:
    """The splits of a part, and the keys of their images if they are wanted."""
    if part.kind == "labels":
        keys: dict[str, set[str]] = {}
        for labels in read_layout(*part.labels):
            keys.setdefault(labels.split, set()).update(image.ref.key for image in labels.images)
        return keys
    if not part.folder.is_dir():
        return {}
    tree = VocTree(part.folder)
    return {split: set(tree.keys(split)) if with_images else set() for split in tree.splits}


def splits_of(spec: str) -> list[str]:
    """The splits of a data set; for COCO, the single split that the file represents."""
    found: dict[str, None] = {}
    for part in parts(spec):
        if part.split:
            found[part.split] = None
        elif part.kind == "coco":
            found[read_coco_labels(part.coco[0], None).split] = None
        else:
            found |= dict.fromkeys(_keys(part, with_images=False))
    return list(found)


def read_splits(spec: str, problems: Problems | None = None) -> list[Labels]:
    """All splits as they are annotated.

    Args:
        problems: receives the errors of single images, which are then skipped; by default they are raised.
    """
    found: list[Labels] = []
    for part in parts(spec):
        if part.kind == "coco":
            found.append(_part_labels(part, part.split or "", problems=problems))
        elif part.kind == "labels":
            every = read_layout(*part.labels, problems=problems)
            found += [labels for labels in every if part.split in (None, labels.split)]
        else:
            if not part.folder.is_dir():
                raise DataError(f"{part.folder} is not a folder", "Name a folder in VOC layout")
            names = [part.split] if part.split else voc_splits(part.folder)
            found += [read_voc_labels(part.folder, name, problems) for name in names]
    return found


def voc_folders(spec: str) -> list[Path]:
    """The folders in VOC layout of a data set."""
    folders = [part.folder for part in parts(spec) if part.kind.startswith("voc")]
    others = [part.labels[0] for part in parts(spec) if part.kind == "labels" and part.labels[0].is_dir()]
    return list(dict.fromkeys([*folders, *(folder for folder in others if VocTree(folder).listed)]))
