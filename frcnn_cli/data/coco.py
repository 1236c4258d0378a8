"""COCO layout: one JSON file of `images`, `annotations` (x y w h, continuous, from 0) and `categories`, and a folder.

An image goes by its `file_name`. Classes are the categories, in the order of their numbers, which may have gaps. A
crowd is an object that evaluation ignores and training leaves out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from frcnn_cli.data.labels import MOST_PIXELS, LabelledImage, LabelledObject, Labels, sound
from frcnn_cli.errors import DataError
from frcnn_cli.files import read_json
from frcnn_cli.image import ImageRef

MAX_JSON_BYTES = 2 << 30


def read_coco_labels(annotations: Path, folder: Path) -> Labels:
    """All images of the file, as they are annotated. Its name, without `instances_`, is the split's.

    Raises:
        DataError: a file or folder that is missing, JSON that is no such layout (what and where), or an image's file
            that is not in the folder.
    """
    content = _read(annotations)
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder", "Write coco:ANNOTATIONS.json:FOLDER of its images")
    names: dict[int, str] = {}
    for at, value in enumerate(content["categories"]):
        number, name = _of(value, annotations, "categories", at, id=int, name=str)
        if number in names or name in names.values():
            raise DataError(f"{annotations}: category {number} {name!r} is there twice", "Give each its own number")
        names[number] = name
    if not names:
        raise DataError(f"{annotations} has no categories", "Name the file of instances")
    keys: dict[int, str] = {}
    sizes: dict[int, tuple[float, float] | None] = {}
    for at, value in enumerate(content["images"]):
        number, key = _of(value, annotations, "images", at, id=int, file_name=str)
        if number in keys:
            raise DataError(f"{annotations}: image {number} is there twice", "Give each its own number")
        if PurePosixPath(key).is_absolute() or ".." in PurePosixPath(key).parts:
            raise DataError(f"{annotations}: {key!r} lies outside the folder of images", "Name files below it")
        keys[number] = key
        size = [value.get(side) for side in ("width", "height")]
        told = all(isinstance(side, (int, float)) and 0 < side < MOST_PIXELS for side in size)
        sizes[number] = (float(size[0]), float(size[1])) if told else None
    if len(set(keys.values())) < len(keys):
        raise DataError(f"{annotations}: two images share a file", "Give each its own")
    objects: dict[int, list[LabelledObject]] = {number: [] for number in keys}
    for at, value in enumerate(content["annotations"]):
        number, category, corners = _of(value, annotations, "annotations", at, image_id=int, category_id=int, bbox=list)
        if number not in keys or category not in names:
            lacking = f"image {number}" if number not in keys else f"category {category}"
            raise DataError(f"{annotations}: annotation {at} is of {lacking}, which is not there", "Correct the file")
        objects[number].append(_object(value, names[category], corners, f"{annotations}: annotation {at}"))
    images = []
    for number, key in keys.items():
        path = folder / key
        if not path.is_file():
            raise DataError(f"{folder} has no image {key!r}", f"Add it, or name the folder that {annotations} is of")
        images.append(LabelledImage(ImageRef(key, path), annotations, sizes[number], tuple(objects[number])))
    if not images:
        raise DataError(f"{annotations} names no images", "Name the file of instances")
    split = annotations.stem.removeprefix("instances_")
    classes = tuple(names[number] for number in sorted(names))
    return Labels(annotations.name, split, classes, tuple(images), keys, names)


def _read(path: Path) -> dict[str, list[Any]]:
    content = read_json(path, MAX_JSON_BYTES, DataError, "Name COCO's file of instances")
    for name in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(name), list):
            raise DataError(f"{path} has no list of {name}", "Name COCO's file of instances")
    return content  # type: ignore[no-any-return]


def _of(value: Any, path: Path, kind: str, at: int, **wanted: type) -> tuple[Any, ...]:
    """Some members of an entry, of these types."""
    if not isinstance(value, Mapping):
        raise DataError(f"{path}: entry {at} of {kind} is not an object", "Correct the file")
    for name, type_ in wanted.items():
        if not isinstance(value.get(name), type_) or isinstance(value[name], bool):
            raise DataError(f"{path}: entry {at} of {kind} has no {name}", "Correct the file")
    return tuple(value[name] for name in wanted)


def _object(value: Mapping[str, Any], name: str, corners: list[Any], where: str) -> LabelledObject:
    try:
        x, y, width, height = (float(v) for v in corners)
        area = float(value["area"]) if value.get("area") is not None else None
        crowd = bool(int(value.get("iscrowd") or 0))
        difficult = bool(int(value.get("ignore") or 0))
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{where} is not of numbers", "Give it a bbox of x, y, width, height") from None
    if not sound(x, y, width, height) or not math.isfinite(area or 0.0):
        raise DataError(f"{where} holds a number that is not finite, or huge", "Correct its bbox")
    written = f"{name} {x:g} {y:g} {width:g} {height:g}"
    return LabelledObject(name, (x, y, x + width, y + height), written, difficult, crowd, area)
