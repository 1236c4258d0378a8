"""`.csv`: a header line, and columns for the image, the four numbers of a box, and optionally the score."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.columns import IMAGES, SCORES, box_columns, first_of
from frcnn_cli.core.convention import OURS
from frcnn_cli.core.errors import FileFormatError
from frcnn_cli.proposals.box_files.box_file import BoxFile, Items, rows_of
from frcnn_cli.system.tables import TableError, open_table


def read_csv(path: Path) -> BoxFile:
    """Lines of image and box, separated by commas, semicolons or tabs.

    `image,left,top,right,bottom`, which `write_csv` writes, is in our own convention.

    Raises:
        FileFormatError: a header without the necessary columns, or a malformed line, with its number.
    """
    rows: dict[str, list[list[float]]] = {}
    with open_table(path) as table:
        header = table.header
        named, of_box, score = first_of(IMAGES, header), box_columns(header), first_of(SCORES, header)
        if named is None or of_box is None:
            raise FileFormatError(
                f"{path} starts with {table.separator.join(header)!r}",
                "Start with a header: image, then x1,y1,x2,y2 (or xmin,..., x,y,w,h, left,top,right,bottom),"
                " optionally score",
            )
        names, order = of_box
        image, numbers = header.index(named), [header.index(name) for name in (*names, *([score] if score else []))]
        for cells in table.lines:
            if len(cells) != len(header):
                raise TableError(f"{len(cells)} columns under a header of {len(header)}")
            boxes = rows.setdefault(cells[image].strip(), [])
            if any(cells[i].strip() for i in numbers):  # an image without numbers has no boxes
                boxes.append([table.number(cells[i]) for i in numbers])
    boxes_of = list(rows.values())
    stated = vars(OURS) if names == ("left", "top", "right", "bottom") else {"order": order}

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
