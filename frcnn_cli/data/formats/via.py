"""Labels of the VGG Image Annotator, version 1 and 2: a project or its annotations as JSON, or a table."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from frcnn_cli.core.errors import DataError, listed
from frcnn_cli.data.formats.pictures import Naming, Pictures, box_around
from frcnn_cli.data.formats.splits import by_split
from frcnn_cli.data.labels import (
    Corners,
    LabelledImage,
    LabelledObject,
    Labels,
    Problems,
    collecting,
    counted,
    plausible,
)
from frcnn_cli.system.tables import TableError, open_table
from frcnn_cli.system.untrusted import read_json

MAX_BYTES = 1 << 30
_CLASS_NAMES = ("class", "label", "name", "type", "category", "object")  # of the attribute that states the class


def is_via(content: Any) -> bool:
    """Whether JSON is a project of VIA, or its exported annotations."""
    entries = _entries(content)
    return bool(entries) and all(isinstance(e, dict) and "filename" in e and "regions" in e for e in entries)


def is_via_table(header: Iterable[str]) -> bool:
    """Whether a table has VIA's columns."""
    return {"filename", "region_shape_attributes", "region_attributes"} <= set(header)


def read_via_labels(path: Path, pictures: Pictures, problems: Problems | None = None) -> list[Labels]:
    """The labels of each split: rectangles, and the boxes around circles, ellipses and polygons.

    The class is the only attribute of a region, or the one that is called class, label, name, type, category or object.

    Args:
        problems: receives the errors of single regions, which are then skipped; by default they are raised.

    Raises:
        DataError: another layout, a region without a class, or pictures that are missing.
    """
    naming = Naming(pictures, path)
    regions: dict[str, list[LabelledObject]] = {}
    skipped: list[str] = []
    every = list(_table(path) if path.suffix.lower() == ".csv" else _json(path))
    attribute = _class_attribute([attributes for _, shape, attributes, _ in every if shape], path)
    for name, shape, attributes, where in every:
        ref = naming.find(name, where)
        if ref is None:
            continue
        of_image = regions.setdefault(ref.key, [])
        if not shape:
            continue
        with collecting(problems):
            box = _box(shape, where)
            if box is None:
                skipped.append(f"a {shape.get('name')} in {name}")
            else:
                class_ = _class(attributes, attribute, where)
                of_image.append(LabelledObject(class_, box, f"{class_} {' '.join(f'{v:g}' for v in box)}"))
    with collecting(problems):
        naming.check()
    images = [
        LabelledImage(pictures.refs[key], path, pictures.size(key), tuple(found), size_stated=False)
        for key, found in regions.items()
    ]
    notes = [
        *counted("{} region(s) are points or lines and are skipped", skipped),
        *naming.notes("{} picture(s) are not in the file and are skipped"),
    ]
    classes = tuple(sorted({obj.name for image in images for obj in image.objects}))
    layout = f"VGG Image Annotator, the attribute {attribute!r} is the class"
    return by_split(path.stem, layout, classes, images, notes=notes)


_Region = tuple[str, Mapping[str, Any], Mapping[str, Any], str]  # file name, shape, attributes, where


def _entries(content: Any) -> list[Any]:
    if not isinstance(content, dict):
        return []
    whole = content.get("_via_img_metadata", content)
    return list(whole.values()) if isinstance(whole, dict) else []


def _json(path: Path) -> Iterable[_Region]:
    for entry in _entries(read_json(path, MAX_BYTES, DataError, "Export the annotations as JSON")):
        regions = entry["regions"]
        regions = list(regions.values()) if isinstance(regions, dict) else regions  # version 1
        name = str(entry["filename"])
        if not isinstance(regions, list) or not all(isinstance(region, dict) for region in regions):
            raise DataError(f"{path}: {name} has no list of regions", "Export the annotations again")
        if not regions:
            yield name, {}, {}, str(path)
        for at, region in enumerate(regions):
            where = f"{path}: region {at} of {name}"
            yield name, _mapping(region, "shape_attributes", where), _mapping(region, "region_attributes", where), where


def _mapping(region: Mapping[str, Any], member: str, where: str) -> Mapping[str, Any]:
    value = region.get(member)
    if not isinstance(value, dict):
        raise DataError(f"{where} has no {member}", "Export the annotations again")
    return value


def _table(path: Path) -> Iterable[_Region]:
    with open_table(path, DataError) as table:
        at = {name: i for i, name in enumerate(table.header)}
        for cells in table.lines:
            if len(cells) < len(table.header):
                raise TableError(f"{len(cells)} columns under a header of {len(table.header)}")
            shape, attributes = (cells[at[name]] for name in ("region_shape_attributes", "region_attributes"))
            try:
                parsed = json.loads(shape or "{}"), json.loads(attributes or "{}")
            except (ValueError, RecursionError):
                raise TableError("the attributes of a region are not JSON") from None
            if not all(isinstance(value, dict) for value in parsed):
                raise TableError("the attributes of a region are not an object")
            yield cells[at["filename"]], *parsed, f"{path} line {table.line}"


def _box(shape: Mapping[str, Any], where: str) -> Corners | None:
    """The box around a region; None for a point or a line."""
    kind = shape.get("name")
    try:
        if kind == "rect":
            x, y, width, height = (float(shape[name]) for name in ("x", "y", "width", "height"))
            box: Corners = (x, y, x + width, y + height)
        elif kind in ("circle", "ellipse"):
            x, y = float(shape["cx"]), float(shape["cy"])
            rx, ry = float(shape.get("rx", shape.get("r"))), float(shape.get("ry", shape.get("r")))
            turn = float(shape.get("theta") or 0)  # radians
            across = math.hypot(rx * math.cos(turn), ry * math.sin(turn))
            down = math.hypot(rx * math.sin(turn), ry * math.cos(turn))
            box = (x - across, y - down, x + across, y + down)
        elif kind == "polygon":
            xs, ys = (map(float, shape[name]) for name in ("all_points_x", "all_points_y"))
            box = box_around(zip(xs, ys, strict=True))
        else:
            return None
    except (TypeError, ValueError, KeyError, OverflowError):
        raise DataError(f"{where} is not a complete {kind}", "Draw it again") from None
    if not plausible(*box):
        raise DataError(f"{where} holds a number that is not finite, or huge", "Correct it")
    return box


def _class_attribute(regions: list[Mapping[str, Any]], path: Path) -> str:
    """The attribute that states the class: the only one, or the one with such a name."""
    names = list(dict.fromkeys(str(name) for attributes in regions for name in attributes))
    for candidates in (names, [name for name in names if name.lower() in _CLASS_NAMES]):
        if len(candidates) == 1:
            return candidates[0]
    if not names and not regions:
        return ""
    fix = "Give each region one attribute, or call the one with the class 'class'"
    raise DataError(f"{path}: regions have the attributes {listed(names) or '(none)'}; which is the class?", fix)


def _class(attributes: Mapping[str, Any], name: str, where: str) -> str:
    value = attributes.get(name, "")
    if isinstance(value, dict):  # a checkbox: {"cat": true}
        chosen = [str(one) for one, on in value.items() if on]
        value = chosen[0] if len(chosen) == 1 else ""
    if not str(value).strip():
        raise DataError(f"{where} has no {name}, or several", "Give it one class")
    return str(value).strip()
