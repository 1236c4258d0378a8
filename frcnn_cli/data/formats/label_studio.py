"""Label Studio's exports as JSON or JSON-MIN. Coordinates are percentages of the image size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frcnn_cli.core.errors import DataError
from frcnn_cli.data.formats.pictures import Naming, Pictures, box_around
from frcnn_cli.data.formats.splits import by_split
from frcnn_cli.data.labels import LabelledImage, LabelledObject, Labels, Problems, collecting, counted, plausible
from frcnn_cli.system.untrusted import read_json

MAX_BYTES = 1 << 30
_SHAPES = ("rectanglelabels", "polygonlabels", "ellipselabels")
_FIX = "Export the project as JSON or JSON-MIN"


def is_label_studio(content: Any) -> bool:
    """Whether JSON is an export of Label Studio."""
    if not isinstance(content, list) or not content or not isinstance(content[0], dict):
        return False
    task = content[0]
    return isinstance(task.get("data"), dict) or ("id" in task and "annotator" in task) or "annotation_id" in task


def read_label_studio_labels(path: Path, pictures: Pictures, problems: Problems | None = None) -> list[Labels]:
    """The labels of each split: rectangles, also rotated, and the boxes around polygons and ellipses.

    Of each task, the first annotation that was not cancelled is used; notes count the tasks with more, and results of
    other kinds.

    Args:
        problems: receives the errors of single results, which are then skipped; by default they are raised.

    Raises:
        DataError: another layout, or pictures that are missing.
    """
    naming = Naming(pictures, path)
    images: list[LabelledImage] = []
    several: list[str] = []
    skipped: list[str] = []
    bare: list[str] = []
    for at, task in enumerate(read_json(path, MAX_BYTES, DataError, _FIX)):
        where = f"{path}: task {at}"
        if not isinstance(task, dict):
            raise DataError(f"{where} is not a JSON object", _FIX)
        data = task.get("data", task)
        if not isinstance(data, dict):
            raise DataError(f"{where} has no data", _FIX)
        name = _picture(data, where)
        ref = naming.find(name, where)
        if ref is None:
            continue
        results, count = _results(task)
        several += [name] if count > 1 else []
        if count == 0:
            bare.append(name)
            continue
        objects, size = [], None
        for result in results:
            with collecting(problems):
                found, of_result = _object(result, pictures.size(ref.key), where)
                size = of_result or size
                if found is None:
                    skipped.append(name)
                else:
                    objects.append(found)
        images.append(LabelledImage(ref, path, size or pictures.size(ref.key), tuple(objects)))
    with collecting(problems):
        naming.check()
    notes = [
        *counted("{} task(s) have several annotations, of which the first is used", several),
        *counted("{} task(s) are not annotated and are skipped", bare),
        *counted("{} result(s) have no box or several classes and are skipped", skipped),
        *naming.notes("{} picture(s) are in no task and are skipped"),
    ]
    classes = tuple(sorted({obj.name for image in images for obj in image.objects}))
    return by_split(path.stem, "Label Studio", classes, images, notes=notes)


def _picture(data: Mapping[str, Any], where: str) -> str:
    """The picture of a task: the value called image, img or ocr; without one, the only value that looks like a path."""
    texts = {name: value for name, value in data.items() if isinstance(value, str)}
    for name in ("image", "img", "ocr"):
        if name in texts:
            return texts[name]
    paths = [value for value in texts.values() if "." in value.rpartition("/")[2]]
    if len(paths) != 1:
        raise DataError(f"{where} names no image", "Name the column of the images 'image'")
    return paths[0]


def _results(task: Mapping[str, Any]) -> tuple[list[Any], int]:
    """The results of the annotation that counts, and the number of annotations."""
    if "data" not in task:  # JSON-MIN: {"image": ..., "label": [...]}
        lists = [value for value in task.values() if isinstance(value, list)]
        return [result for results in lists for result in results if isinstance(result, dict)], 1
    every = task.get("annotations", task.get("completions"))
    every = every if isinstance(every, list) else []
    annotations = [one for one in every if isinstance(one, dict) and not one.get("was_cancelled")]
    results = annotations[0].get("result") if annotations else []
    return (results if isinstance(results, list) else []), len(annotations)


def _object(
    result: Any, picture: tuple[float, float], where: str
) -> tuple[LabelledObject | None, tuple[float, float] | None]:
    """An object, in pixels of the size that the result states, and that size."""
    try:
        value = result.get("value", result)
        width, height = result.get("original_width"), result.get("original_height")
        size = (float(width), float(height)) if width and height else None
        names: list[Any] = next((value[kind] for kind in _SHAPES if value.get(kind)), [])
        if len(names) != 1:
            return None, size
        box = box_around(_points(value, *(size or picture)))
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
        raise DataError(f"{where} has a result without a complete shape", _FIX) from None
    if not plausible(*box):
        raise DataError(f"{where} holds a number that is not finite, or huge", "Correct it")
    return LabelledObject(str(names[0]), box, f"{names[0]} {' '.join(f'{v:g}' for v in box)}"), size


def _points(value: Mapping[str, Any], width: float, height: float) -> list[tuple[float, float]]:
    """Points around a shape, in pixels. A rectangle is rotated about its first corner, clockwise."""
    if "points" in value:
        return [(float(x) * width / 100, float(y) * height / 100) for x, y in value["points"]]
    x, y = float(value["x"]) * width / 100, float(value["y"]) * height / 100
    if "radiusX" in value:
        across, down = float(value["radiusX"]) * width / 100, float(value["radiusY"]) * height / 100
        return [(x - across, y - down), (x + across, y + down)]
    w, h = float(value["width"]) * width / 100, float(value["height"]) * height / 100
    turn = math.radians(float(value.get("rotation") or 0))
    corners = [(0.0, 0.0), (w, 0.0), (w, h), (0.0, h)]
    return [
        (x + dx * math.cos(turn) - dy * math.sin(turn), y + dx * math.sin(turn) + dy * math.cos(turn))
        for dx, dy in corners
    ]
