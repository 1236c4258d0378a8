"""COCO layout: one JSON file of `images`, `annotations` (x y w h, continuous, 0-based) and `categories`, and a folder.

The key of an image is its `file_name`. The classes are the categories in the order of their numbers, which may have
gaps. Crowds are objects that evaluation ignores and training excludes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from frcnn_cli.core.errors import DataError
from frcnn_cli.core.files import write_atomic
from frcnn_cli.core.image import ImageRecord, ImageRef
from frcnn_cli.data.dataset import Dataset, Sample
from frcnn_cli.data.formats.images import copy_image, unique_keys
from frcnn_cli.data.labels import MAX_PIXELS, LabelledImage, LabelledObject, Labels, plausible
from frcnn_cli.system.untrusted import read_json

MAX_JSON_BYTES = 2 << 30


def read_coco_labels(annotations: Path, folder: Path) -> Labels:
    """All images of the file as they are annotated. The name of the file, without `instances_`, is the split.

    Raises:
        DataError: a missing file or folder, JSON of another layout (what and where), or an image without its file.
    """
    content = _read(annotations)
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder", "Write coco:ANNOTATIONS.json:FOLDER, with the folder of its images"
        )
    names: dict[int, str] = {}
    for at, value in enumerate(content["categories"]):
        number, name = _members(value, annotations, "categories", at, id=int, name=str)
        if number in names or name in names.values():
            raise DataError(
                f"{annotations}: category {number} {name!r} occurs twice", "Give each category its own id and name"
            )
        names[number] = name
    if not names:
        raise DataError(f"{annotations} has no categories", "Pass COCO's file of instances (instances_*.json)")
    keys: dict[int, str] = {}
    sizes: dict[int, tuple[float, float] | None] = {}
    for at, value in enumerate(content["images"]):
        number, key = _members(value, annotations, "images", at, id=int, file_name=str)
        if number in keys:
            raise DataError(f"{annotations}: image {number} occurs twice", "Give each image its own id")
        if PurePosixPath(key).is_absolute() or ".." in PurePosixPath(key).parts:
            raise DataError(f"{annotations}: {key!r} is outside of the folder of images", "Name files below it")
        keys[number] = key
        size = [value.get(side) for side in ("width", "height")]
        stated = all(isinstance(side, (int, float)) and 0 < side < MAX_PIXELS for side in size)
        sizes[number] = (float(size[0]), float(size[1])) if stated else None
    if len(set(keys.values())) < len(keys):
        raise DataError(f"{annotations}: two images have the same file", "Give each its own file")
    objects: dict[int, list[LabelledObject]] = {number: [] for number in keys}
    for at, value in enumerate(content["annotations"]):
        number, category, corners = _members(
            value, annotations, "annotations", at, image_id=int, category_id=int, bbox=list
        )
        if number not in keys or category not in names:
            missing = f"image {number}" if number not in keys else f"category {category}"
            raise DataError(f"{annotations}: annotation {at} is of {missing}, which does not exist", "Correct the file")
        objects[number].append(_object(value, names[category], corners, f"{annotations}: annotation {at}"))
    images = []
    for number, key in keys.items():
        path = folder / key
        if not path.is_file():
            raise DataError(
                f"{folder} has no image {key!r}", f"Add it, or name the folder of the images in {annotations}"
            )
        images.append(LabelledImage(ImageRef(key, path), annotations, sizes[number], tuple(objects[number])))
    if not images:
        raise DataError(f"{annotations} lists no images", "Pass COCO's file of instances (instances_*.json)")
    split = annotations.stem.removeprefix("instances_")
    classes = tuple(names[number] for number in sorted(names))
    return Labels(annotations.name, split, classes, tuple(images), keys, names)


def write_coco(datasets: Sequence[Dataset], sizes: Mapping[str, ImageRecord], folder: Path) -> None:
    """Writes `images/` and `annotations/instances_SPLIT.json`. A data set that was read from COCO keeps its image and
    class IDs; otherwise they count from 1.

    Args:
        sizes: the record of each image, by key.

    Raises:
        DataError: two images would get the same name. FrcnnError: the system refuses to write.
    """
    unique_keys(datasets)
    for dataset in datasets:
        for sample in dataset.samples:
            copy_image(sample.ref.path, folder / "images" / _file_name(sample))
        content = json.dumps(_instances(dataset, sizes)).encode()
        write_atomic(folder / "annotations" / f"instances_{dataset.split}.json", content)


def _read(path: Path) -> dict[str, list[Any]]:
    content = read_json(path, MAX_JSON_BYTES, DataError, "Pass COCO's file of instances (instances_*.json)")
    for name in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(name), list):
            raise DataError(f"{path} has no list of {name}", "Pass COCO's file of instances (instances_*.json)")
    return content  # type: ignore[no-any-return]


def _members(value: Any, path: Path, kind: str, at: int, **types: type) -> tuple[Any, ...]:
    """Some members of an entry, checked for their types."""
    if not isinstance(value, Mapping):
        raise DataError(f"{path}: entry {at} of {kind} is not an object", "Correct the file")
    for name, type_ in types.items():
        if not isinstance(value.get(name), type_) or isinstance(value[name], bool):
            raise DataError(f"{path}: entry {at} of {kind} has no {name}", "Correct the file")
    return tuple(value[name] for name in types)


def _object(value: Mapping[str, Any], name: str, corners: list[Any], where: str) -> LabelledObject:
    try:
        x, y, width, height = (float(v) for v in corners)
        area = float(value["area"]) if value.get("area") is not None else None
        crowd = bool(int(value.get("iscrowd") or 0))
        difficult = bool(int(value.get("ignore") or 0))
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{where} does not consist of numbers", "Give it a bbox of x, y, width, height") from None
    if not plausible(x, y, width, height) or not math.isfinite(area or 0.0):
        raise DataError(f"{where} holds a number that is not finite, or huge", "Correct its bbox")
    written = f"{name} {x:g} {y:g} {width:g} {height:g}"
    return LabelledObject(name, (x, y, x + width, y + height), written, difficult, crowd, area)


def _instances(dataset: Dataset, sizes: Mapping[str, ImageRecord]) -> dict[str, list[dict[str, Any]]]:
    numbers = {key: number for number, key in dataset.image_ids.items()}
    categories = {name: number for number, name in dataset.categories.items()}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for at, sample in enumerate(dataset.samples, 1):
        number, record = numbers.get(sample.ref.key, at), sizes[sample.ref.key]
        images.append({"id": number, "file_name": _file_name(sample), "width": record.width, "height": record.height})
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


def _file_name(sample: Sample) -> str:
    """The key, with the ending of the file, which the keys of VOC's images lack."""
    ending = sample.ref.path.suffix.lower()
    return sample.ref.key if sample.ref.key.lower().endswith(ending) else sample.ref.key + ending
