"""labelme's JSON: one file per picture, beside it or in a folder of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from frcnn_cli.core.errors import DataError
from frcnn_cli.core.files import files_below
from frcnn_cli.core.image import ImageRef
from frcnn_cli.core.names import clean
from frcnn_cli.data.formats.pictures import Naming, Pictures, box_around
from frcnn_cli.data.formats.splits import by_split
from frcnn_cli.data.labels import (
    MAX_COORDINATE,
    Corners,
    LabelledImage,
    LabelledObject,
    Labels,
    Problems,
    collecting,
    counted,
    plausible,
)
from frcnn_cli.system.untrusted import read_json

MAX_BYTES = 1 << 28  # a file may hold its picture, in base 64
_NOT_CLASSES = frozenset({"_background_", "__ignore__"})  # names of labelme's examples
_WITH_AREA = frozenset({"rectangle", "polygon", "mask", "circle", "oriented_rectangle"})


def is_labelme(content: Any) -> bool:
    """Whether JSON is a file of labelme."""
    return isinstance(content, dict) and isinstance(content.get("shapes"), list) and "imagePath" in content


def read_labelme_labels(folder: Path, pictures: Pictures, problems: Problems | None = None) -> list[Labels]:
    """The labels of each split: rectangles, and the boxes around polygons, circles and masks.

    Points and lines have no box, and `_background_` and `__ignore__` are not classes; notes count them.

    Args:
        folder: of the JSON files. pictures: those below it, or of another folder.
        problems: receives the errors of single shapes, which are then skipped; by default they are raised.

    Raises:
        DataError: a file that is not labelme's, or pictures that are missing.
    """
    naming = Naming(pictures, folder)
    images: list[LabelledImage] = []
    skipped: list[str] = []
    beside: dict[Path, list[ImageRef]] = {}
    for ref in pictures.refs.values():
        beside.setdefault(ref.path.with_suffix(""), []).append(ref)
    for path in files_below(folder, ".json"):
        content = read_json(path, MAX_BYTES, DataError, "Save it again with labelme")
        if not is_labelme(content):
            continue
        picture: ImageRef | None = None
        with collecting(problems):
            picture = _picture(path, str(content["imagePath"]), beside, naming)
        if picture is None:
            continue
        size = content.get("imageWidth"), content.get("imageHeight")
        stated = all(isinstance(side, (int, float)) and 0 < side < MAX_COORDINATE for side in size)
        objects = []
        for at, shape in enumerate(content["shapes"]):
            with collecting(problems):
                found = _object(shape, f"{path}: shape {at}")
                if found is None:
                    skipped.append(f"shape {at} of {path.name}")
                else:
                    objects.append(found)
        annotated = (float(size[0]), float(size[1])) if stated else None
        images.append(LabelledImage(picture, path, annotated, tuple(objects)))
    with collecting(problems):
        naming.check()
    bare = pictures.refs.keys() - {image.ref.key for image in images}
    notes = [
        *counted("{} shape(s) are points, lines or background and are skipped", skipped),
        *counted("{} picture(s) have no file of labels and are skipped", bare),
    ]
    classes = tuple(sorted({obj.name for image in images for obj in image.objects}))
    return by_split(folder.name, "labelme", classes, images, notes=notes)


def _picture(path: Path, name: str, beside: Mapping[Path, list[ImageRef]], naming: Naming) -> ImageRef | None:
    """The picture beside the file, which may have been renamed together with it; of several, the one that it names."""
    near = beside.get(path.with_suffix(""), [])
    named = [ref for ref in near if ref.path.name == clean(name).rpartition("/")[2]]
    if len(near) > 1 and not named:
        both = f"{near[0].key} and {near[1].key}"
        raise DataError(f"{path} could belong to {both}", "Rename or remove one of the pictures")
    return (named or near)[0] if near else naming.find(name, str(path))


def _object(shape: Any, where: str) -> LabelledObject | None:
    try:
        name, kind = str(shape["label"]).strip(), shape.get("shape_type") or "polygon"
        points = [(float(x), float(y)) for x, y in shape["points"]]
        if not name or name in _NOT_CLASSES or kind not in _WITH_AREA or len(points) < 2:
            return None
        box = _circle(points) if kind == "circle" else box_around(points)
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
        raise DataError(f"{where} has no label and points", "Save it again with labelme") from None
    if not plausible(*box):
        raise DataError(f"{where} holds a number that is not finite, or huge", "Correct its points")
    return LabelledObject(name, box, f"shape {name} {' '.join(f'{v:g}' for v in box)}")


def _circle(points: Sequence[tuple[float, float]]) -> Corners:
    """The box around a circle, which is stored as its centre and a point on it."""
    (x, y), on_it = points[0], points[1]
    radius = math.dist((x, y), on_it)
    return x - radius, y - radius, x + radius, y + radius
