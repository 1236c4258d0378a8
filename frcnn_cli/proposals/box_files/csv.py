"""`.csv`: a header line, and columns for the image, the four numbers of a box, and optionally the score."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.errors import FileFormatError, explain_os_error
from frcnn_cli.core.files import check_regular
from frcnn_cli.proposals.box_files.box_file import BoxFile, Items, rows_of
from frcnn_cli.proposals.box_files.convention import OURS

_IMAGES = ("image", "filename", "file_name", "image_id", "path", "img")
_SCORES = ("score", "confidence", "conf")
_HEADERS = {  # the names of the columns of a box state the order of its numbers
    ("left", "top", "right", "bottom"): "xyxy",
    ("x1", "y1", "x2", "y2"): "xyxy",
    ("xmin", "ymin", "xmax", "ymax"): "xyxy",
    ("x", "y", "w", "h"): "xywh",
    ("x", "y", "width", "height"): "xywh",
    ("cx", "cy", "w", "h"): "cxcywh",
    ("x_center", "y_center", "width", "height"): "cxcywh",
}


def read_csv(path: Path) -> BoxFile:
    """Lines of image and box, separated by commas, semicolons or tabs.

    `image,left,top,right,bottom`, which `write_csv` writes, is in our own convention.

    Raises:
        FileFormatError: a header without the necessary columns, or a malformed line, with its number.
    """
    rows: dict[str, list[list[float]]] = {}
    line = 1
    try:
        with open(check_regular(path, FileFormatError), newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            separator = max(",;\t", key=first.count)
            header = [name.strip().lower() for name in next(csv.reader([first], delimiter=separator), [])]
            image, corners, order = _columns(header, path)
            score = next((header.index(name) for name in _SCORES if name in header), None)
            numbers = [*corners, *([] if score is None else [score])]
            reader = csv.reader(file, delimiter=separator)
            for cells in reader:
                line = reader.line_num + 1
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(header):
                    raise ValueError(f"{len(cells)} columns under a header of {len(header)}")
                boxes = rows.setdefault(cells[image].strip(), [])
                if any(cells[i].strip() for i in numbers):  # an image without numbers has no boxes
                    boxes.append([float(cells[i]) for i in numbers])
    except OSError as error:
        raise explain_os_error(error, path) from None
    except (ValueError, csv.Error) as error:
        raise FileFormatError(f"{path}, line {line}: {error}", "Write a number in each column of a box") from None
    boxes_of = list(rows.values())
    stated = vars(OURS) if header[corners[0]] == "left" else {"order": order}

    def read(i: int) -> NDArray[np.float64]:
        return np.array(boxes_of[i], np.float64).reshape(-1, len(numbers))

    return BoxFile(path, ".csv", len(rows), read, list(rows), stated)


def write_csv(items: Items) -> bytes:
    """Lines of image, left, top, right, bottom and, if all images have scores, score, in our own convention; an image
    without boxes has one line without numbers."""
    scored = all(found.scores is not None for _, found in items)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header = ["image", "left", "top", "right", "bottom", *(["score"] if scored else [])]
    writer.writerow(header)
    for image, found in items:
        rows = rows_of(found)
        if not len(rows):
            writer.writerow([image.key] + [""] * (len(header) - 1))
        writer.writerows([image.key, *(repr(float(v)) for v in row)] for row in rows)
    return text.getvalue().encode()


def _columns(header: list[str], path: Path) -> tuple[int, list[int], str]:
    """The column of the image, the columns of the box, and the order of its numbers."""
    image = next((header.index(name) for name in _IMAGES if name in header), None)
    for names, order in _HEADERS.items():
        if image is not None and set(names) <= set(header):
            return image, [header.index(name) for name in names], order
    raise FileFormatError(
        f"{path} starts with {','.join(header) or 'an empty line'!r}",
        "Start with a header: image, then x1,y1,x2,y2 (or xmin,..., x,y,w,h, left,top,right,bottom), optionally score",
    )
