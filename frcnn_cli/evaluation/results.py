"""Detections as the tools of PASCAL VOC and COCO exchange them.

VOC: a folder with one text file a class, `comp4_det_SPLIT_CLASS.txt`, a line a detection: image, score, and the corners
of the box, counted from 1 with the last pixel inside. COCO: one JSON list of `image_id, category_id, bbox, score`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from frcnn_cli.annotations import Detections
from frcnn_cli.boxes import from_inclusive, from_xywh, to_inclusive
from frcnn_cli.errors import FileFormatError
from frcnn_cli.files import read_json, read_text

MAX_BYTES = 2 << 30
_LARGEST = 1e7  # pixels, either way
_Row = tuple[float, float, float, float, float, int]  # score, corners, label


def voc_lines(detections: Mapping[str, Detections], classes: Sequence[str]) -> dict[str, str]:
    """The text of each class's file, images by key. Six digits of the score, as the devkit's own; one of a corner."""
    lines: dict[str, list[str]] = {name: [] for name in classes}
    for key in sorted(detections):
        found = detections[key]
        for score, corners, label in zip(
            found.scores.tolist(), to_inclusive(found.boxes, base=1).tolist(), found.labels.tolist(), strict=True
        ):
            lines[classes[label]].append(f"{key} {score:.6f} {' '.join(f'{v:.1f}' for v in corners)}\n")
    return {name: "".join(rows) for name, rows in lines.items()}


def read_voc_results(folder: Path, classes: Sequence[str], split: str) -> dict[str, Detections]:
    """The detections of each image that has any.

    Args:
        classes: of the data set; each has its file, or no detections.

    Raises:
        FileFormatError: no file for any class, or a line that is not a detection.
    """
    rows: dict[str, list[_Row]] = {}
    read = 0
    for label, name in enumerate(classes):
        files = sorted(folder.glob(f"comp[0-9]*_det_{split}_{_literal(name)}.txt"))
        if len(files) > 1:
            raise FileFormatError(f"{folder} holds {files[0].name} and {files[1].name}", "Leave one of them")
        for path in files:
            read += 1
            for number, line in enumerate(read_text(path, MAX_BYTES).splitlines(), 1):
                if line.strip():
                    key, row = _voc_line(line, label, f"{path} line {number}")
                    rows.setdefault(key, []).append(row)
    if not read:
        wanted = f"comp4_det_{split}_{classes[0]}.txt"
        raise FileFormatError(f"{folder} holds no results of any class", f"The devkit names them like {wanted}")
    return {key: _detections(found, inclusive=True) for key, found in rows.items()}


def read_coco_results(path: Path, keys: Mapping[int, str], categories: Mapping[int, int]) -> dict[str, Detections]:
    """The detections of each image that has any.

    Args:
        keys: the image of each id. categories: the label of each category's number.

    Raises:
        FileFormatError: not a list of results, or an image or category that the data set lacks.
    """
    values = read_json(path, MAX_BYTES, fix="Name a list of COCO results")
    if not isinstance(values, list):
        raise FileFormatError(f"{path} is not a list of results", "Each is image_id, category_id, bbox, score")
    rows: dict[str, list[_Row]] = {}
    for number, value in enumerate(values):
        try:
            key, label = keys[value["image_id"]], categories[value["category_id"]]
            x, y, w, h, score = (float(v) for v in (*value["bbox"], value["score"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise FileFormatError(
                f"{path}: result {number} is not one of this data set ({type(error).__name__} {error})",
                "Each is image_id, category_id, bbox, score",
            ) from None
        if not _sound(x, y, w, h, score):
            raise FileFormatError(f"{path}: result {number} holds a number that is not finite, or huge", "Correct it")
        rows.setdefault(key, []).append((score, x, y, w, h, label))
    return {key: _detections(found, inclusive=False) for key, found in rows.items()}


def _voc_line(line: str, label: int, where: str) -> tuple[str, _Row]:
    words = line.rsplit(maxsplit=5)
    try:
        score, x1, y1, x2, y2 = (float(word) for word in words[-5:])
    except ValueError:
        words = []
        score = x1 = y1 = x2 = y2 = math.nan
    if len(words) != 6 or not _sound(score, x1, y1, x2, y2):
        raise FileFormatError(f"{where} is not a detection", "A line is: image score xmin ymin xmax ymax")
    return words[0], (score, x1, y1, x2, y2, label)


def _sound(*numbers: float) -> bool:
    return all(abs(number) < _LARGEST for number in numbers)  # NaN is below nothing


def _detections(rows: Sequence[_Row], inclusive: bool) -> Detections:
    table = np.array(rows, np.float64)
    table = table[np.argsort(-table[:, 0], kind="stable")]
    boxes = from_inclusive(table[:, 1:5], base=1) if inclusive else from_xywh(table[:, 1:5])
    return Detections(boxes, table[:, 0].astype(np.float32), table[:, 5].astype(np.int64))


def _literal(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)
