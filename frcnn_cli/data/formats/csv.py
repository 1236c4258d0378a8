"""Tables of labels: a line per object, or a line per image with a list of boxes.

The columns are found by their names, whatever the order (`core.columns`). Without a header, the columns are those of
keras-retinanet: image, x1, y1, x2, y2, class. A line with only an image is an image without objects.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from frcnn_cli.core.columns import CLASSES, IMAGES, box_columns, first_of
from frcnn_cli.core.convention import OURS, TOLERANCE, Entry, Finding, detect_convention
from frcnn_cli.core.errors import DataError, listed
from frcnn_cli.core.files import files_below, files_in, write_atomic
from frcnn_cli.core.image import ImageRecord
from frcnn_cli.core.splits import DEFAULT_SPLIT
from frcnn_cli.data.dataset import Dataset
from frcnn_cli.data.formats.images import copy_images
from frcnn_cli.data.formats.pictures import Naming, Pictures
from frcnn_cli.data.formats.splits import by_split
from frcnn_cli.data.formats.voc import read_annotation
from frcnn_cli.data.labels import MAX_COORDINATE, LabelledImage, LabelledObject, Labels, Problems, collecting, plausible
from frcnn_cli.system.tables import Table, TableError, open_table

_SPLITS = ("split", "subset", "set")
_LISTS = ("bbox", "bboxes", "boxes", "box", "labels", "annotations")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_MARKS = ("difficult", "iscrowd")
_AT_BORDER = 2  # sides of boxes needed at each border to detect the convention
_SAMPLE = 20  # images whose VOC XML is compared with the table


class _Columns(NamedTuple):
    """The place of each column; None if the table lacks it.

    boxes: four columns, or one with a list of boxes.
    stated: what the names of the columns state about the convention.
    """

    image: int
    class_: int | None
    boxes: list[int]
    split: int | None
    width: int | None
    height: int | None
    crowd: int | None
    difficult: int | None
    stated: Mapping[str, Any] = {}


class _Row(NamedTuple):
    name: str
    numbers: tuple[float, float, float, float]
    line: int
    crowd: bool
    difficult: bool


@dataclass
class _Lines:
    """What the lines of one image state."""

    rows: list[_Row] = field(default_factory=list)
    split: str = ""
    size: tuple[float, float] | None = None


def read_csv_labels(
    path: Path, pictures: Pictures, stated: Mapping[str, Any] | None = None, problems: Problems | None = None
) -> list[Labels]:
    """The labels in a table, one `Labels` per split.

    The convention of the numbers is detected from the sizes of the images, from VOC XML of the same images, and from
    boxes that end at the border of an image; `Labels.layout` states what was found.

    Args:
        stated: fields of `Convention` that are known: order, base, inclusive, relative.
        problems: receives the errors of single lines, which are then skipped; by default they are raised.

    Raises:
        DataError: missing columns, a line that is not an object, or images that are not among the pictures.
    """
    naming = Naming(pictures, path)
    found: dict[str, _Lines] = {}
    names = _class_names(path.parent)
    with open_table(path, DataError) as table:
        columns, first = _columns(table, path)
        for cells in _with_first(table, first):
            with collecting(problems), table.naming_line():
                written = _cell(cells, columns.image)
                ref = naming.find(written, f"{path} line {table.line}")
                if ref is not None:
                    of_image = found.setdefault(ref.key, _Lines())
                    _state(of_image, cells, columns, table, written)
                    of_image.rows += _rows(cells, columns, table, names)
    with collecting(problems):
        naming.check()
    finding = _convention(found, pictures, {**columns.stated, **(stated or {})})
    images = []
    for key, lines in found.items():
        size = lines.size or pictures.size(key)
        objects = _objects(lines, size, finding)
        images.append(LabelledImage(pictures.refs[key], path, size, objects, size_stated=lines.size is not None))
    notes = [
        *finding.doubts(),
        *naming.notes(
            "{} image(s) are skipped because no line names them",
            "; for an image without objects, write a line with only the image",
        ),
    ]
    classes = tuple(sorted({obj.name for image in images for obj in image.objects}))
    has_splits = columns.split is not None and any(lines.split for lines in found.values())
    splits = {key: lines.split or DEFAULT_SPLIT for key, lines in found.items()} if has_splits else None
    return by_split(path.stem, f"table, boxes read as {finding}", classes, images, splits, notes)


def write_csv(datasets: Sequence[Dataset], sizes: Mapping[str, ImageRecord], folder: Path) -> None:
    """Writes `images/` and `labels.csv`: image, left, top, right, bottom, class, split, width, height, difficult,
    iscrowd; an image without objects has a line without a box. Boxes are in our own convention (`core.boxes`).

    Args:
        sizes: the record of each image, by key.

    Raises:
        DataError: two images would get the same name, or an image is in several splits, which a table cannot express.
            FrcnnError: the system refuses to write.
    """
    keys = [sample.ref.key for dataset in datasets for sample in dataset.samples]
    if len(set(keys)) < len(keys):
        raise DataError("some images are in several splits, which a table cannot express", "Convert each with --split")
    names = {key: f"images/{name}" for key, name in copy_images(datasets, folder / "images").items()}
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["image", "left", "top", "right", "bottom", "class", "split", "width", "height", *_MARKS])
    for dataset in datasets:
        for sample in dataset.samples:
            record, truth = sizes[sample.ref.key], sample.truth
            about = [dataset.split, record.width, record.height]
            for i, box in enumerate(truth.boxes.tolist()):
                marks = int(truth.difficult[i]), int(truth.crowd[i])
                lines.writerow([names[sample.ref.key], *box, dataset.classes[truth.labels[i]], *about, *marks])
            if not len(truth):
                lines.writerow([names[sample.ref.key], "", "", "", "", "", *about, "", ""])
    write_atomic(folder / "labels.csv", text.getvalue().encode())


def _columns(table: Table, path: Path) -> tuple[_Columns, Sequence[str] | None]:
    """The columns, and the first line if it is not a header."""
    header = table.header
    image, class_ = first_of(IMAGES, header), first_of(CLASSES, header)
    of_box, of_list = box_columns(header), first_of(_LISTS, header)
    if image is None and len(header) == 6 and _is_headless(table):
        return _Columns(0, 5, [1, 2, 3, 4], None, None, None, None, None, {"order": "xyxy"}), table.first
    lacking = [
        what
        for what, there in (
            ("of images", image is not None),
            ("of classes", class_ is not None),
            ("of boxes", of_box is not None or (of_list is not None and of_list != class_)),
        )
        if not there
    ]
    if image is None or class_ is None or lacking:
        raise DataError(
            f"{path} has no column {' or '.join(lacking)}; it has the columns {listed(name[:40] for name in header)}",
            "Its first line must name image, class, and xmin, ymin, xmax, ymax or x, y, w, h",
        )

    def at(name: str | None) -> int | None:
        return header.index(name) if name in header and name is not None else None

    boxes, order = of_box if of_box is not None else ((of_list,), None)
    sizes = ("width", "height") if "width" not in boxes else ("image_width", "image_height")
    crowd = first_of(("isgroupof", "iscrowd"), header)
    ours = boxes == ("left", "top", "right", "bottom")
    columns = _Columns(
        image=header.index(image),
        class_=at(class_),
        boxes=[header.index(name) for name in boxes if name is not None],
        split=at(first_of(_SPLITS, header)),
        width=at(sizes[0]),
        height=at(sizes[1]),
        crowd=at(crowd),
        difficult=at(_MARKS[0]),
        stated=vars(OURS) if ours else {} if order is None else {"order": order},
    )
    return columns, None


def _is_headless(table: Table) -> bool:
    numbers = [cell.strip() for cell in table.first[1:5]]
    return all(_NUMBER.fullmatch(cell) for cell in numbers) or not any(numbers)


def _with_first(table: Table, first: Sequence[str] | None) -> Iterable[Sequence[str]]:
    if first is not None:
        yield first
    yield from table.lines


def _cell(cells: Sequence[str], at: int | None) -> str:
    return cells[at].strip() if at is not None and at < len(cells) else ""


def _rows(cells: Sequence[str], columns: _Columns, table: Table, names: Mapping[str, str]) -> list[_Row]:
    """The objects of a line: none, one, or those of a list."""
    name = _cell(cells, columns.class_)
    texts = [_cell(cells, at) for at in columns.boxes]
    if not name and not any(texts):
        return []
    crowd, difficult = (_cell(cells, at).lower() in ("1", "true") for at in (columns.crowd, columns.difficult))
    if len(columns.boxes) == 1:
        numbers = [float(number) for number in _NUMBER.findall(texts[0])]
        boxes: list[tuple[float, ...]] = [tuple(numbers[i : i + 4]) for i in range(0, len(numbers), 4)]
        words = [word.strip(" '\"") for word in name.strip("[]").split(",")] if name.startswith("[") else [name]
        words = [word for word in words if word]
        of_box = words * len(boxes) if len(words) == 1 and boxes else words
        if len(of_box) != len(boxes) or (boxes and len(boxes[-1]) < 4):
            raise TableError(f"{len(of_box)} classes, but {len(numbers)} coordinates")
    else:
        boxes = [tuple(table.number(text) if text else float("nan") for text in texts)]
        of_box = [name]
    for box, of in zip(boxes, of_box, strict=True):
        if not of or not plausible(*box):
            written = " ".join([of or "(no class)", *(text or "(nothing)" for text in texts)])[:200]
            fix = "Write an image, a class and four numbers; or only an image, which then has no objects"
            raise TableError(f"not an object: {written}", fix)
    return [
        _Row(names.get(of, of), (box[0], box[1], box[2], box[3]), table.line, crowd, difficult)
        for box, of in zip(boxes, of_box, strict=True)
    ]


def _state(lines: _Lines, cells: Sequence[str], columns: _Columns, table: Table, image: str) -> None:
    """Records the split and the size that a line states."""
    split = _cell(cells, columns.split)
    if lines.split and split and lines.split != split:
        raise TableError(f"{image!r} is put into a second split", "Keep each image in one split")
    lines.split = lines.split or split
    width, height = _cell(cells, columns.width), _cell(cells, columns.height)
    if width and height:
        size = table.number(width), table.number(height)
        if lines.size is not None and lines.size != size:
            raise TableError(f"{image!r} is given a second size")
        lines.size = size if min(size) > 0 and max(size) < MAX_COORDINATE else None


def _convention(found: Mapping[str, _Lines], pictures: Pictures, stated: Mapping[str, Any]) -> Finding:
    entries = []
    for key, lines in found.items():
        if lines.rows and (lines.size is not None or pictures.is_readable(key)):
            width, height = lines.size or pictures.size(key)
            rows = np.array([row.numbers for row in lines.rows], np.float64)
            entries.append(Entry(rows, int(width), int(height)))
    finding = detect_convention(entries, stated)
    if "base" in stated or "inclusive" in stated or finding.convention.relative:
        return finding
    if _is_voc(found, pictures):
        finding = detect_convention(entries, {**stated, "base": 1, "inclusive": True})
        finding.because.update(dict.fromkeys(("base", "inclusive"), "detected from VOC XML"))
    elif not _at_both_borders(finding, entries):
        finding = detect_convention(entries, {**stated, "base": OURS.base, "inclusive": OURS.inclusive})
        finding.because.update(dict.fromkeys(("base", "inclusive"), "assumed"))
    return finding


def _at_both_borders(finding: Finding, entries: Sequence[Entry]) -> bool:
    """Whether boxes end exactly at the near and at the far border of their images in this reading. Unlike proposals, a
    few objects may begin at pixel 1 by chance."""
    near = far = 0
    for entry in entries:
        boxes = finding.convention.to_boxes(entry.rows, entry.width, entry.height)
        near += int((np.abs(boxes[:, :2]) < TOLERANCE).sum())
        far += int((np.abs(boxes[:, 2:] - [entry.width, entry.height]) < TOLERANCE).sum())
    return min(near, far) >= _AT_BORDER


def _is_voc(found: Mapping[str, _Lines], pictures: Pictures) -> bool:
    """Whether the numbers are those of VOC XML of the same images, which tables are often made from."""
    folder = pictures.folder
    annotations = {path.stem: path for path in files_below(folder, ".xml")}
    for name in ("Annotations", "annotations"):
        annotations |= {path.stem: path for path in files_in(folder.parent / name, ".xml")}
    compared = 0
    for key, lines in found.items():
        path = annotations.get(Path(key).stem)
        if path is None or not lines.rows:
            continue
        try:
            boxes = [obj.box for obj in read_annotation(path).objects]
        except DataError:
            return False
        if {(x1 + 1, y1 + 1, x2, y2) for x1, y1, x2, y2 in boxes} != {row.numbers for row in lines.rows}:
            return False
        compared += 1
        if compared == _SAMPLE:
            break
    return compared > 0


def _objects(lines: _Lines, size: tuple[float, float], finding: Finding) -> tuple[LabelledObject, ...]:
    if not lines.rows:
        return ()
    boxes = finding.convention.to_boxes(np.array([row.numbers for row in lines.rows], np.float64), *size)
    return tuple(
        LabelledObject(
            row.name,
            (x1, y1, x2, y2),
            f"line {row.line}: {row.name} {' '.join(f'{v:g}' for v in row.numbers)}",
            row.difficult,
            row.crowd,
        )
        for row, (x1, y1, x2, y2) in zip(lines.rows, boxes.tolist(), strict=True)
    )


def _class_names(folder: Path) -> dict[str, str]:
    """OpenImages' names of its classes (`/m/01yrx`), if their table lies beside the labels."""
    names: dict[str, str] = {}
    for path in files_in(folder, ".csv"):
        if path.name.startswith(("class-descriptions", "oidv6-class-descriptions", "oidv7-class-descriptions")):
            with open_table(path, DataError) as table:
                for cells in _with_first(table, table.first):
                    if len(cells) == 2:
                        names[cells[0].strip()] = cells[1].strip()
    return names
