"""COCO layout: one JSON file of `images`, `annotations` (x y w h, continuous, 0-based) and `categories`, and a folder.

The key of an image is its `file_name`. The classes are the categories in the order of their numbers, which may have
gaps. Crowds are objects that evaluation ignores and training excludes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from frcnn_cli.core.errors import DataError
from frcnn_cli.core.files import write_atomic
from frcnn_cli.core.ids import CocoId, as_id
from frcnn_cli.core.image import ImageRecord, ImageRef
from frcnn_cli.data.dataset import Dataset
from frcnn_cli.data.formats.coco_masks import box_of
from frcnn_cli.data.formats.images import copy_images
from frcnn_cli.data.formats.pictures import Naming, Pictures
from frcnn_cli.data.labels import (
    MAX_COORDINATE,
    LabelledImage,
    LabelledObject,
    Labels,
    Problems,
    collecting,
    counted,
    plausible,
)
from frcnn_cli.system.untrusted import read_json

MAX_JSON_BYTES = 2 << 30
ROBOFLOW = "_annotations.coco"
_FIX = "Pass COCO's file of instances (instances_*.json)"
_NO = frozenset({"", "0", "false", "no", "none"})
_YES = frozenset({"1", "true", "yes"})


def read_coco_labels(annotations: Path, folder: Path | None, problems: Problems | None = None) -> Labels:
    """All images of the file as they are annotated. The name of the file, without `instances_`, is the split; of
    Roboflow's `train/_annotations.coco.json`, the folder.

    Args:
        folder: that of the images. None: the images are not needed, and their paths are only their names.
        problems: receives the errors of single entries, which are then skipped; by default they are raised.

    Raises:
        DataError: a missing file or folder, JSON of another layout (what and where), or images without their files.
    """
    content = _read(annotations)
    if folder is not None and not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder", "Write coco:ANNOTATIONS.json:FOLDER, with the folder of its images"
        )
    categories = _read_categories(content["categories"], annotations)
    used: set[CocoId] = set()
    entries = _read_images(content["images"], annotations)
    objects: dict[CocoId, list[LabelledObject]] = {number: [] for number in entries}
    skipped: list[str] = []
    for at, value in enumerate(content["annotations"]):
        where = f"{annotations}: annotation {at}"
        with collecting(problems):
            number, category = _id(value, "image_id", annotations, at), _id(value, "category_id", annotations, at)
            if number not in entries or category not in categories:
                missing = f"image {number!r}" if number not in entries else f"category {category!r}"
                raise DataError(f"{where} belongs to {missing}, which does not exist", "Correct the file")
            used.add(category)
            found = _object(value, categories[category].name, where)
            if found is None:
                skipped.append(f"annotation {at}")
            else:
                objects[number].append(found)
    kept = _without_groups(categories, used, annotations)
    keys = _keys(entries, annotations, folder, problems)
    images = tuple(
        LabelledImage(
            ImageRef(keys[number], (folder or Path()) / keys[number]), annotations, entry.size, tuple(objects[number])
        )
        for number, entry in entries.items()
        if number in keys
    )
    notes = counted("{} annotation(s) have neither a bbox nor a segmentation and are skipped", skipped)
    split = annotations.stem.removeprefix("instances_")
    if split == ROBOFLOW:
        split = annotations.resolve().parent.name or split
    classes = tuple(kept.values())
    return Labels(annotations.name, split, classes, images, keys, kept, "COCO", tuple(notes))


def write_coco(datasets: Sequence[Dataset], sizes: Mapping[str, ImageRecord], folder: Path) -> None:
    """Writes `images/` and `annotations/instances_SPLIT.json`. A data set that was read from COCO keeps its image and
    class IDs; otherwise they count from 1.

    Args:
        sizes: the record of each image, by key.

    Raises:
        DataError: two images would get the same name. FrcnnError: the system refuses to write.
    """
    names = copy_images(datasets, folder / "images")
    for dataset in datasets:
        content = json.dumps(_instances(dataset, sizes, names)).encode()
        write_atomic(folder / "annotations" / f"instances_{dataset.split}.json", content)


@dataclass(frozen=True)
class _Category:
    name: str
    group: str  # COCO's supercategory


@dataclass(frozen=True)
class _Entry:
    file_name: str
    size: tuple[float, float] | None


def is_coco(content: Any) -> bool:
    """Whether JSON is in the layout of COCO's instances."""
    return isinstance(content, dict) and all(
        isinstance(content.get(name), list) for name in ("images", "annotations", "categories")
    )


def _read(path: Path) -> dict[str, list[Any]]:
    content = read_json(path, MAX_JSON_BYTES, DataError, _FIX)
    for name in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(name), list):
            raise DataError(f"{path} has no list of {name}", _FIX)
    return content  # type: ignore[no-any-return]


def _read_categories(values: list[Any], path: Path) -> dict[CocoId, _Category]:
    found: dict[CocoId, _Category] = {}
    for at, value in enumerate(values):
        number, name = _id(value, "id", path, at, "categories"), value.get("name")
        if not isinstance(name, str) or not name:
            raise DataError(f"{path}: entry {at} of categories has no name", "Correct the file")
        if number in found:
            both = f"{found[number].name!r} and {name!r}"
            raise DataError(f"{path}: the categories {both} both have the id {number!r}", "Give each its own id")
        found[number] = _Category(name, str(value.get("supercategory")))
    if not found:
        raise DataError(f"{path} has no categories", _FIX)
    return found


def _without_groups(categories: Mapping[CocoId, _Category], used: set[CocoId], path: Path) -> dict[CocoId, str]:
    """The categories by ID, in the order of the IDs. One without objects that only groups others (Roboflow writes
    such), or that repeats the name of another, is skipped.

    Raises:
        DataError: two categories with objects have the same name.
    """
    groups = {other.group for number, other in categories.items() if other.group != other.name}
    kept: dict[CocoId, str] = {}
    owners: dict[str, CocoId] = {}
    ordered = sorted(categories, key=lambda number: (isinstance(number, str), number))
    for number in sorted(ordered, key=lambda number: number not in used):  # those with objects first
        name = categories[number].name
        if number not in used and (name in groups or name in owners):
            continue
        if name in owners:
            both = f"categories {owners[name]!r} and {number!r} are both called {name!r}"
            raise DataError(f"{path}: {both}", "Give each its own name, or merge them")
        owners[name], kept[number] = number, name
    if not kept:  # there is no object; a group may be a class then
        kept = {number: categories[number].name for number in ordered}
    return {number: kept[number] for number in ordered if number in kept}


def _read_images(values: list[Any], path: Path) -> dict[CocoId, _Entry]:
    entries: dict[CocoId, _Entry] = {}
    for at, value in enumerate(values):
        number, name = _id(value, "id", path, at, "images"), value.get("file_name")
        if not isinstance(name, str) or not name:
            raise DataError(f"{path}: entry {at} of images has no file_name", "Correct the file")
        if number in entries:
            raise DataError(f"{path}: two images have the id {number!r}", "Give each image its own id")
        size = [value.get(side) for side in ("width", "height")]
        stated = all(isinstance(side, (int, float)) and 0 < side < MAX_COORDINATE for side in size)
        entries[number] = _Entry(name, (float(size[0]), float(size[1])) if stated else None)
    if not entries:
        raise DataError(f"{path} lists no images", _FIX)
    return entries


def _keys(
    entries: Mapping[CocoId, _Entry], path: Path, folder: Path | None, problems: Problems | None
) -> dict[CocoId, str]:
    """The key of each image: its file name, or the path of the file that it means."""
    if folder is None or all(_is_there(entry.file_name, folder) for entry in entries.values()):
        keys = {number: entry.file_name for number, entry in entries.items()}
    else:
        keys, naming = {}, Naming(Pictures(folder), path)
        for number, entry in entries.items():
            with collecting(problems):
                ref = naming.find(entry.file_name, f"image {number!r}")
                if ref is not None:
                    keys[number] = ref.key
        with collecting(problems):
            naming.check()
    if len(set(keys.values())) < len(keys):
        raise DataError(f"{path}: two images have the same file", "Give each its own file")
    return keys


def _is_there(name: str, folder: Path) -> bool:
    """Whether a name is the path of a file below the folder; links may lead out of it."""
    path = PurePosixPath(name)
    try:
        return not path.is_absolute() and ".." not in path.parts and (folder / name).is_file()
    except OSError:  # too long
        return False


def _id(value: Any, member: str, path: Path, at: int, kind: str = "annotations") -> CocoId:
    """An ID that an entry states, as a number if it is one."""
    if not isinstance(value, Mapping):
        raise DataError(f"{path}: entry {at} of {kind} is not an object", "Correct the file")
    number = as_id(value.get(member))
    if number is None:
        stated = "has no" if value.get(member) is None else f"has {str(value[member])[:40]!r} as"
        raise DataError(f"{path}: entry {at} of {kind} {stated} {member}", "Write a number")
    return number


def _object(value: Mapping[str, Any], name: str, where: str) -> LabelledObject | None:
    """An annotation; None if it has no extent at all."""
    corners = value.get("bbox")
    try:
        if corners is None or corners == []:
            outline = box_of(value.get("segmentation"))
            if outline is None:
                return None
            x1, y1, x2, y2 = outline
            x, y, width, height = x1, y1, x2 - x1, y2 - y1
        else:
            x, y, width, height = (float(v) for v in corners)
        area = float(value["area"]) if value.get("area") is not None else None
        crowd, difficult = _flag(value.get("iscrowd")), _flag(value.get("ignore"))
    except (TypeError, ValueError, OverflowError, KeyError):
        raise DataError(f"{where} does not consist of numbers", "Give it a bbox of x, y, width, height") from None
    if not plausible(x, y, width, height) or not math.isfinite(area or 0.0):
        raise DataError(f"{where} holds a number that is not finite, or huge", "Correct its bbox")
    written = f"{name} {x:g} {y:g} {width:g} {height:g}"
    return LabelledObject(name, (x, y, x + width, y + height), written, difficult, crowd, area)


def _flag(value: Any) -> bool:
    text = str(value if value is not None else "").strip().lower()
    if text in _NO:
        return False
    if text in _YES:
        return True
    return bool(int(float(text)))


def _instances(
    dataset: Dataset, sizes: Mapping[str, ImageRecord], names: Mapping[str, str]
) -> dict[str, list[dict[str, Any]]]:
    numbers = {key: number for number, key in dataset.image_ids.items()}
    categories = {name: number for number, name in dataset.categories.items()}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for at, sample in enumerate(dataset.samples, 1):
        number, record = numbers.get(sample.ref.key, at), sizes[sample.ref.key]
        images.append(
            {"id": number, "file_name": names[sample.ref.key], "width": record.width, "height": record.height}
        )
        truth = sample.truth
        for i, (x1, y1, x2, y2) in enumerate(truth.boxes.tolist()):
            name = dataset.classes[truth.labels[i]]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": categories.get(name, int(truth.labels[i]) + 1),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": float(truth.areas[i]),
                    "iscrowd": int(truth.crowd[i]),
                    "ignore": int(truth.difficult[i]),
                }
            )
    listed = [{"id": categories.get(name, i), "name": name} for i, name in enumerate(dataset.classes, 1)]
    return {"images": images, "annotations": annotations, "categories": listed}
