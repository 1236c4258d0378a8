"""Labels as people keep them: a folder of pictures with a .csv, or a tree in YOLO's manner. Read to be converted."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from frcnn_cli.data.find import IMAGE_ENDINGS
from frcnn_cli.data.labels import LabelledImage, LabelledObject, Labels, sound
from frcnn_cli.errors import DataError
from frcnn_cli.files import read_text
from frcnn_cli.image import ImageRecord, ImageRef

MAX_BYTES = 1 << 30
_MAX_YAML_BYTES = 1 << 20
# What columns are called; the first that is there is taken.
_NAMES = {
    "image": ("image", "filename", "file_name", "file", "path", "image_path", "img", "image_id"),
    "class": ("class", "label", "name", "class_name", "category"),
    "split": ("split", "subset", "set"),
}
_CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("x1", "y1", "x2", "y2"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("left", "top", "right", "bottom"),
)
_SIZES = (("x", "y", "w", "h"), ("x", "y", "width", "height"), ("left", "top", "width", "height"))


def read_csv(table: Path, folder: Path, records: Mapping[str, ImageRecord]) -> list[Labels]:
    """A line an object: image, class, corners (xmin ymin xmax ymax) or corner and size (x y w h), perhaps split.

    A line with an image alone is an image without objects. Boxes are taken as they are, in pixels from 0.

    Args:
        records: every picture of the folder, by its path below it; those that no line names are left out.

    Raises:
        DataError: columns that are not there, or a line that is not an object.
    """
    text = read_text(table, MAX_BYTES, DataError)
    try:
        dialect: type[csv.Dialect] = csv.Sniffer().sniff(text[:4096], ",;\t")
    except csv.Error:
        dialect = csv.excel
    lines = _lines(csv.DictReader(text.splitlines(), dialect=dialect), table)
    columns = {(name or "").strip().lower(): name for name in next(lines)}
    named = {what: next((columns[n] for n in names if n in columns), None) for what, names in _NAMES.items()}
    corners = next((c for c in _CORNERS if all(n in columns for n in c)), None)
    sizes = next((c for c in _SIZES if all(n in columns for n in c)), None)
    image, class_, split_ = (named[what] for what in ("image", "class", "split"))
    if image is None or class_ is None or (corners or sizes) is None:
        raise DataError(
            f"{table} has the columns {', '.join(columns) or 'of nothing'}",
            "Its first line must name image, class, and xmin, ymin, xmax, ymax or x, y, w, h",
        )
    by_name: dict[str, list[str]] = {}
    for path in records:
        by_name.setdefault(Path(path).name, []).append(path)
    objects: dict[str, list[LabelledObject]] = {}
    splits: dict[str, str] = {}
    for number, line in enumerate(lines, 2):
        where = f"{table} line {number}"
        named_image, name = (str(line[column] or "").strip() for column in (image, class_))
        words = [(line[columns[n]] or "").strip() for n in (corners or sizes or ())]
        key = _picture(named_image, records, by_name, where)
        if key is None:
            what = f"{where} names {named_image!r}, which is not in {folder}"
            raise DataError(what, "Correct the line, or add the picture")
        mine = objects.setdefault(key, [])
        if name or any(words):
            mine.append(_table_object(name, words, corners is not None, where, number))
        split = str(line[split_] or "").strip() if split_ else ""
        if splits.setdefault(key, split or "trainval") != (split or "trainval"):
            raise DataError(f"{where} puts {named_image!r} into a second split", "Leave each image in one")
    classes = tuple(sorted({obj.name for found in objects.values() for obj in found}))
    return _by_split(table.stem, classes, table, folder, records, objects, splits)


def _table_object(name: str, words: Sequence[str], corners: bool, where: str, number: int) -> LabelledObject:
    try:
        a, b, c, d = (float(word) for word in words)
    except ValueError:
        a = b = c = d = math.nan
    if not name or not sound(a, b, c, d):
        written = " ".join([name or "(no class)", *(word or "(nothing)" for word in words)])
        fix = "It wants an image, a class and four numbers; or an image alone, which then has no objects"
        raise DataError(f"{where} is not an object: {written[:200]}", fix)
    box = (a, b, c, d) if corners else (a, b, a + c, b + d)
    return LabelledObject(name, box, f"line {number}: {name} {a:g} {b:g} {c:g} {d:g}")


def _lines(lines: csv.DictReader[str], table: Path) -> Iterator[dict[str, str]]:
    """First the line of names, as if it held itself; then the others."""
    try:
        yield {name: name for name in lines.fieldnames or ()}
        yield from lines
    except csv.Error as error:
        raise DataError(f"{table} line {lines.line_num + 1} cannot be read ({error})", "Correct the line") from None


def _picture(image: str, records: Mapping[str, ImageRecord], by_name: dict[str, list[str]], where: str) -> str | None:
    """The picture that a line names: by its path below the folder, or by the end of the path that is written."""
    if image in records:
        return image
    parts = Path(image).parts
    alike = by_name.get(Path(image).name, [])
    for length in range(len(parts), 0, -1):
        found = [key for key in alike if Path(key).parts[-length:] == parts[-length:]]
        if len(found) > 1:
            raise DataError(f"{where}: {image!r} may be {found[0]} or {found[1]}", "Write the path below the folder")
        if found:
            return found[0]
    return None


def read_yolo(root: Path, records: Mapping[str, ImageRecord]) -> list[Labels]:
    """`images/SPLIT/x.jpg` beside `labels/SPLIT/x.txt` (or `SPLIT/images` and `SPLIT/labels`, or without splits).

    A line an object: `class cx cy w h` in shares of the picture, or its outline, whose box is taken. Names of classes
    are in `data.yaml` or `classes.txt`.

    Args:
        records: every picture below `root`, by its path below it.

    Raises:
        DataError: no labels, no names, or a line that is not an object.
    """
    classes = _yolo_names(root)
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
        objects[key] = list(_yolo_objects(labels, record, classes)) if labels.is_file() else []
    if not any(objects.values()):
        raise DataError(f"{root} holds no labels", "YOLO keeps images/SPLIT/x.jpg beside labels/SPLIT/x.txt")
    return _by_split(root.name, classes, root / "labels", root, records, objects, splits)


def _yolo_objects(path: Path, record: ImageRecord, classes: Sequence[str]) -> list[LabelledObject]:
    found = []
    for number, line in enumerate(read_text(path, MAX_BYTES, DataError).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            label, numbers = int(words[0]), [float(word) for word in words[1:]]
            cx, cy, w, h = _around(numbers) if len(numbers) >= 6 and len(numbers) % 2 == 0 else numbers[:4]
        except ValueError:
            label, cx, cy, w, h = -1, *[math.nan] * 4
        if label >= len(classes):
            most = f"there are {len(classes)} names, of 0 to {len(classes) - 1}"
            raise DataError(f"{path} line {number} is of class {label}, and {most}", "Correct it, or name the class")
        if label < 0 or not sound(cx, cy, w, h) or (len(words) > 6 and len(words) % 2 == 0):
            fix = "It wants: class cx cy w h, or class x1 y1 x2 y2 x3 y3 ..., in shares of the picture"
            raise DataError(f"{path} line {number} is not an object", fix)
        x1, y1 = (cx - w / 2) * record.width, (cy - h / 2) * record.height
        box = (x1, y1, x1 + w * record.width, y1 + h * record.height)
        written = f"{path.name} line {number}: {classes[label]} {cx:g} {cy:g} {w:g} {h:g}"
        found.append(LabelledObject(classes[label], box, written))
    return found


def _around(outline: Sequence[float]) -> tuple[float, float, float, float]:
    """Centre and size of the box around an outline's corners, x1 y1 x2 y2 x3 y3 ..."""
    left, top, right, bottom = min(outline[::2]), min(outline[1::2]), max(outline[::2]), max(outline[1::2])
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


def _yolo_names(root: Path) -> tuple[str, ...]:
    names = _written_names(root)
    for name, times in Counter(names).items():
        if times > 1:
            raise DataError(f"{root} names two classes {name!r}", "Give each its own name")
    return names


def _written_names(root: Path) -> tuple[str, ...]:
    """From `data.yaml` (or the only .yaml there is), or `classes.txt`, a name a line."""
    if (root / "classes.txt").is_file():
        return tuple(
            line.strip() for line in read_text(root / "classes.txt", MAX_BYTES, DataError).splitlines() if line.strip()
        )
    found = [root / "data.yaml"] if (root / "data.yaml").is_file() else sorted(root.glob("*.y*ml"))
    if len(found) != 1:
        fix = f"Write names: [cat, dog] to {root / 'data.yaml'}, or a name a line to {root / 'classes.txt'}"
        raise DataError(f"{root} does not name its classes", fix)
    import yaml

    try:
        # Everything as the text that is written: `yes` is a class, and not True.
        content = yaml.load(read_text(found[0], _MAX_YAML_BYTES, DataError), yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError, ValueError):
        raise DataError(f"{found[0]} is not YAML", "Write the names to classes.txt, a name a line") from None
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict) and set(names) == {str(number) for number in range(len(names))}:
        names = [names[str(number)] for number in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise DataError(f"{found[0]} has no names of classes", "Write names: [cat, dog]")
    return tuple(names)


def _by_split(
    name: str,
    classes: tuple[str, ...],
    source: Path,
    folder: Path,
    records: Mapping[str, ImageRecord],
    objects: Mapping[str, list[LabelledObject]],
    splits: Mapping[str, str],
) -> list[Labels]:
    images: dict[str, list[LabelledImage]] = {}
    for key, found in objects.items():
        size = (float(records[key].width), float(records[key].height))
        image = LabelledImage(ImageRef(key, folder / key), source, size, tuple(found))
        images.setdefault(splits.get(key, "trainval"), []).append(image)
    for split in images:
        if not re.fullmatch(r"[\w-]+", split):
            raise DataError(f"{source}: {split!r} is not the name of a split", "Use letters, digits, - and _")
    return [Labels(name, split, classes, tuple(found)) for split, found in sorted(images.items())]


def pictures_below(folder: Path) -> list[ImageRef]:
    """Every picture below a folder, by its path below it."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_ENDINGS and path.is_file())
    return [ImageRef(path.relative_to(folder).as_posix(), path) for path in found]
