"""Supervisely's projects: `meta.json`, and per data set `img/x.jpg` and `ann/x.jpg.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from frcnn_cli.core.errors import DataError
from frcnn_cli.core.files import files_below
from frcnn_cli.data.formats.pictures import Pictures, box_around
from frcnn_cli.data.formats.splits import by_split, check_split
from frcnn_cli.data.labels import (
    LabelledImage,
    LabelledObject,
    Labels,
    Problems,
    collecting,
    counted,
    plausible,
    single,
)
from frcnn_cli.system.untrusted import read_json

MAX_BYTES = 1 << 28
_FIX = "Export the project again in Supervisely's format"


def is_supervisely(folder: Path) -> bool:
    """Whether a folder is a project."""
    return (folder / "meta.json").is_file() and any(folder.glob("*/ann"))


def read_supervisely_labels(folder: Path, pictures: Pictures, problems: Problems | None = None) -> list[Labels]:
    """The labels of each data set of a project, which become its splits.

    Rectangles and the boxes around polygons; corners of a rectangle are pixels inside it. Notes count other geometries.

    Args:
        problems: receives the errors of single files, which are then skipped; by default they are raised.

    Raises:
        DataError: another layout.
    """
    meta = read_json(folder / "meta.json", MAX_BYTES, DataError, _FIX)
    try:
        classes = single((str(one["title"]) for one in meta["classes"]), str(folder / "meta.json"))
    except (TypeError, KeyError):
        raise DataError(f"{folder / 'meta.json'} has no classes", _FIX) from None
    images, splits, skipped, lone = [], {}, [], []
    for path in files_below(folder, ".json"):
        relative = path.relative_to(folder)
        if len(relative.parts) != 3 or relative.parts[1] != "ann":
            continue
        key = f"{relative.parts[0]}/img/{path.stem}"
        if key not in pictures.refs:
            lone.append(str(relative))
            continue
        with collecting(problems):
            size, found = _read_file(path, classes)
            skipped += [str(relative)] * found.count(None)
            objects = tuple(obj for obj in found if obj is not None)
            images.append(LabelledImage(pictures.refs[key], path, size, objects))
            splits[key] = check_split(relative.parts[0], path)
    notes = [
        *counted("{} object(s) are neither rectangles nor polygons and are skipped", skipped),
        *counted("{} annotation(s) belong to no picture", lone),
        *counted("{} picture(s) have no annotation and are skipped", pictures.refs.keys() - splits.keys()),
    ]
    return by_split(folder.name, "Supervisely", classes, images, splits, notes)


def _read_file(path: Path, classes: tuple[str, ...]) -> tuple[tuple[float, float], list[LabelledObject | None]]:
    content = read_json(path, MAX_BYTES, DataError, _FIX)
    try:
        size = float(content["size"]["width"]), float(content["size"]["height"])
        return size, [_object(one, f"{path}: object {at}", classes) for at, one in enumerate(content["objects"])]
    except (TypeError, KeyError, ValueError, OverflowError):
        raise DataError(f"{path} lacks a valid size or list of objects", _FIX) from None


def _object(value: Any, where: str, classes: tuple[str, ...]) -> LabelledObject | None:
    """An object; None if it is neither a rectangle nor a polygon."""
    name, kind = value["classTitle"], value["geometryType"]
    if kind not in ("rectangle", "polygon"):
        return None
    if name not in classes:
        raise DataError(f"{where} has class {name!r}, which meta.json does not name", "Correct it")
    x1, y1, x2, y2 = box_around([(float(x), float(y)) for x, y in value["points"]["exterior"]])
    if not plausible(x1, y1, x2, y2):
        raise DataError(f"{where} holds a number that is not finite, or huge", "Correct it")
    beyond = 1 if kind == "rectangle" else 0
    return LabelledObject(name, (x1, y1, x2 + beyond, y2 + beyond), f"{name} {x1:g} {y1:g} {x2:g} {y2:g}")
