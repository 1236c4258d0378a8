"""A folder of images with a .csv of labels: one line per object."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from frcnn_cli.core.errors import DataError
from frcnn_cli.core.image import ImageRecord
from frcnn_cli.data.formats.splits import labels_by_split
from frcnn_cli.data.labels import LabelledObject, Labels, plausible
from frcnn_cli.system.untrusted import read_text

MAX_BYTES = 1 << 30
# Names of columns; the first that exists is used.
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


def read_csv_labels(table: Path, folder: Path, records: Mapping[str, ImageRecord]) -> list[Labels]:
    """One line per object: image, class, corners (xmin ymin xmax ymax) or corner and size (x y w h), optionally split.

    A line with only an image is an image without objects. Boxes are in continuous pixels, 0-based.

    Args:
        records: every image of the folder, by its path below it; images without a line are left out.

    Raises:
        DataError: missing columns, or a line that is not an object.
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
            f"{table} has the columns {', '.join(columns)}" if columns else f"the first line of {table} is empty",
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
        key = _find_image(named_image, records, by_name, where)
        if key is None:
            missing = f"{where} names {named_image!r}, which is not in {folder}"
            raise DataError(missing, "Correct the line, or add the image")
        of_image = objects.setdefault(key, [])
        if name or any(words):
            of_image.append(_object(name, words, corners is not None, where, number))
        split = str(line[split_] or "").strip() if split_ else ""
        if splits.setdefault(key, split or "trainval") != (split or "trainval"):
            raise DataError(f"{where} puts {named_image!r} into a second split", "Keep each image in one split")
    classes = tuple(sorted({obj.name for found in objects.values() for obj in found}))
    return labels_by_split(table.stem, classes, table, folder, records, objects, splits)


def _object(name: str, words: Sequence[str], corners: bool, where: str, number: int) -> LabelledObject:
    try:
        a, b, c, d = (float(word) for word in words)
    except ValueError:
        a = b = c = d = math.nan
    if not name or not plausible(a, b, c, d):
        written = " ".join([name or "(no class)", *(word or "(nothing)" for word in words)])
        fix = "Write an image, a class and four numbers; or only an image, which then has no objects"
        raise DataError(f"{where} is not an object: {written[:200]}", fix)
    box = (a, b, c, d) if corners else (a, b, a + c, b + d)
    return LabelledObject(name, box, f"line {number}: {name} {a:g} {b:g} {c:g} {d:g}")


def _lines(lines: csv.DictReader[str], table: Path) -> Iterator[dict[str, str]]:
    """The header, as a row that maps each column name to itself, and then the rows."""
    try:
        yield {name: name for name in lines.fieldnames or ()}
        yield from lines
    except csv.Error as error:
        raise DataError(f"{table} line {lines.line_num + 1} cannot be read ({error})", "Correct the line") from None


def _find_image(
    image: str, records: Mapping[str, ImageRecord], by_name: dict[str, list[str]], where: str
) -> str | None:
    """The image that a line names: by its path below the folder, or by the end of the written path."""
    if image in records:
        return image
    parts = Path(image).parts
    candidates = by_name.get(Path(image).name, [])
    for length in range(len(parts), 0, -1):
        found = [key for key in candidates if Path(key).parts[-length:] == parts[-length:]]
        if len(found) > 1:
            raise DataError(
                f"{where}: {image!r} could be {found[0]} or {found[1]}",
                "Write its path relative to the folder of images",
            )
        if found:
            return found[0]
    return None
