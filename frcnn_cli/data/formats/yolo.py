"""YOLO's layout: `images/SPLIT/x.jpg` beside `labels/SPLIT/x.txt`, and class names in `data.yaml` or `classes.txt`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from frcnn_cli.core.errors import DataError
from frcnn_cli.core.image import ImageRecord
from frcnn_cli.data.formats.splits import labels_by_split
from frcnn_cli.data.labels import LabelledObject, Labels, plausible
from frcnn_cli.system.untrusted import read_text

MAX_BYTES = 1 << 30
_MAX_YAML_BYTES = 1 << 20


def read_yolo_labels(root: Path, records: Mapping[str, ImageRecord]) -> list[Labels]:
    """Reads `images/SPLIT` and `labels/SPLIT` (or `SPLIT/images` and `SPLIT/labels`, or without splits).

    One line per object: `class cx cy w h`, relative to the image size, or its outline, whose bounding box is used.

    Args:
        records: every image below `root`, by its path below it.

    Raises:
        DataError: no labels, no class names, or a line that is not an object.
    """
    classes = _unique_names(root)
    objects: dict[str, list[LabelledObject]] = {}
    splits: dict[str, str] = {}
    for key, record in records.items():
        parts = Path(key).parts
        if "images" not in parts[:-1]:
            continue
        at = parts.index("images")
        labels = root.joinpath(*parts[:at], "labels", *parts[at + 1 :]).with_suffix(".txt")
        around = (*parts[:at], *parts[at + 1 : -1])
        splits[key] = around[0] if around else "trainval"
        objects[key] = _read_objects(labels, record, classes) if labels.is_file() else []
    if not any(objects.values()):
        raise DataError(f"{root} holds no labels", "YOLO keeps images/SPLIT/x.jpg beside labels/SPLIT/x.txt")
    return labels_by_split(root.name, classes, root / "labels", root, records, objects, splits)


def _read_objects(path: Path, record: ImageRecord, classes: Sequence[str]) -> list[LabelledObject]:
    found = []
    for number, line in enumerate(read_text(path, MAX_BYTES, DataError).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            label, numbers = int(words[0]), [float(word) for word in words[1:]]
            outline = len(numbers) >= 6 and len(numbers) % 2 == 0
            cx, cy, w, h = _bounding_box(numbers) if outline else numbers[:4]
        except ValueError:
            label, cx, cy, w, h = -1, *[math.nan] * 4
        if label >= len(classes):
            known = f"there are {len(classes)} names, for 0 to {len(classes) - 1}"
            raise DataError(f"{path} line {number} is of class {label}, but {known}", "Correct it, or name the class")
        if label < 0 or not plausible(cx, cy, w, h) or (len(words) > 6 and len(words) % 2 == 0):
            fix = "Write: class cx cy w h, or class x1 y1 x2 y2 x3 y3 ..., relative to the image size"
            raise DataError(f"{path} line {number} is not an object", fix)
        x1, y1 = (cx - w / 2) * record.width, (cy - h / 2) * record.height
        box = (x1, y1, x1 + w * record.width, y1 + h * record.height)
        written = f"{path.name} line {number}: {classes[label]} {cx:g} {cy:g} {w:g} {h:g}"
        found.append(LabelledObject(classes[label], box, written))
    return found


def _bounding_box(outline: Sequence[float]) -> tuple[float, float, float, float]:
    """Centre and size of the box around an outline x1 y1 x2 y2 x3 y3 ..."""
    left, top, right, bottom = min(outline[::2]), min(outline[1::2]), max(outline[::2]), max(outline[1::2])
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


def _unique_names(root: Path) -> tuple[str, ...]:
    names = _read_names(root)
    for name, times in Counter(names).items():
        if times > 1:
            raise DataError(f"{root} names two classes {name!r}", "Give each its own name")
    return names


def _read_names(root: Path) -> tuple[str, ...]:
    """From `classes.txt`, a name per line, or else `data.yaml` (or the only .yaml file)."""
    if (root / "classes.txt").is_file():
        return tuple(
            line.strip() for line in read_text(root / "classes.txt", MAX_BYTES, DataError).splitlines() if line.strip()
        )
    found = [root / "data.yaml"] if (root / "data.yaml").is_file() else sorted(root.glob("*.y*ml"))
    if len(found) != 1:
        fix = f"Write names: [cat, dog] to {root / 'data.yaml'}, or a name per line to {root / 'classes.txt'}"
        raise DataError(f"{root} does not name its classes", fix)
    import yaml

    try:
        # Every value as text: `yes` is a class, not True.
        content = yaml.load(read_text(found[0], _MAX_YAML_BYTES, DataError), yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError, ValueError):
        raise DataError(f"{found[0]} is not YAML", "Write the names to classes.txt, a name per line") from None
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict) and set(names) == {str(number) for number in range(len(names))}:
        names = [names[str(number)] for number in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise DataError(f"{found[0]} has no names of classes", "Write names: [cat, dog]")
    return tuple(names)
