"""Detections in the result files of PASCAL VOC and COCO.

VOC: a folder with one text file per class, `comp4_det_SPLIT_CLASS.txt`, one line per detection: image, score, and the
corners of the box, 1-based with the last pixel inside. COCO: one JSON list of `image_id, category_id, bbox, score`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from frcnn_cli.core.annotations import Detections
from frcnn_cli.core.boxes import are_fractions, from_inclusive, from_xywh, to_inclusive
from frcnn_cli.core.errors import FileFormatError, listed
from frcnn_cli.core.files import files_in
from frcnn_cli.core.ids import CocoId, as_id
from frcnn_cli.core.names import AmbiguousNameError, FileNames
from frcnn_cli.system.untrusted import read_json, read_text

MAX_BYTES = 2 << 30
_MAX_NUMBER = 1e7  # largest plausible coordinate or score
_Row = tuple[float, float, float, float, float, int]  # score, corners, label


def voc_lines(detections: Mapping[str, Detections], classes: Sequence[str]) -> dict[str, str]:
    """The text of the file of each class, sorted by image key; scores with six decimals, corners with one."""
    lines: dict[str, list[str]] = {name: [] for name in classes}
    for key in sorted(detections):
        found = detections[key]
        for score, corners, label in zip(
            found.scores.tolist(), to_inclusive(found.boxes, base=1).tolist(), found.labels.tolist(), strict=True
        ):
            lines[classes[label]].append(f"{key} {score:.6f} {' '.join(f'{v:.1f}' for v in corners)}\n")
    return {name: "".join(rows) for name, rows in lines.items()}


class Results(NamedTuple):
    """The detections of each image that has any, by the name that the files give to it; and notes on what the user
    should check in the files."""

    detections: dict[str, Detections]
    notes: list[str]


def read_results(
    path: Path,
    classes: Sequence[str],
    split: str,
    images: Mapping[CocoId, str],
    categories: Mapping[CocoId, int],
    complete: bool = True,
) -> Results:
    """A folder of VOC's result files, or a .json of COCO results.

    Args:
        classes: the names that labels index. split: that of the names of VOC's files.
        images: COCO's ID of each image of the data set -> its key. categories: COCO's ID of each class -> its label.
        complete: whether `classes` are all classes of the data set.

    Raises:
        FileFormatError: see `read_voc_results` and `read_coco_results`; or boxes that are fractions of the image size.
    """
    if path.is_dir():
        found = read_voc_results(path, classes, split)
        others = _of_no_class(path, classes, split) if complete else []
        notes = [f"{len(others)} result file(s) belong to no class, e.g. {others[0]}"] if others else []
    else:
        found, notes = read_coco_results(path, images, categories, classes), []
    boxes = np.concatenate([of_image.boxes for of_image in found.values()] or [np.zeros((0, 4), np.float32)])
    if are_fractions(boxes):
        raise FileFormatError(
            f"the boxes in {path} are fractions of the image size, not pixels",
            "Multiply them by the width and height of each image",
        )
    return Results(found, notes)


def _of_no_class(folder: Path, classes: Sequence[str], split: str) -> list[str]:
    """The result files whose class is not among these."""
    pattern = re.compile(rf"comp[0-9]+_det_{re.escape(split)}_(.*)\.txt")
    named = ((path.name, pattern.fullmatch(path.name)) for path in files_in(folder, ".txt"))
    return [name for name, match in named if match is not None and match[1] not in classes]


def read_voc_results(folder: Path, classes: Sequence[str], split: str) -> dict[str, Detections]:
    """The detections of each image that has any.

    Args:
        classes: the classes of the data set. A class without detections has an empty file.

    Raises:
        FileFormatError: a class without a file, or a line that is not a detection.
    """
    rows: dict[str, list[_Row]] = {}
    missing = []
    for label, name in enumerate(classes):
        files = sorted(folder.glob(f"comp[0-9]*_det_{split}_{_literal(name)}.txt"))
        if len(files) > 1:
            raise FileFormatError(f"{folder} holds both {files[0].name} and {files[1].name}", "Keep one of them")
        if not files:
            missing.append(name)
        for path in files:
            for number, line in enumerate(read_text(path, MAX_BYTES).splitlines(), 1):
                if line.strip():
                    key, row = _voc_line(line, label, f"{path} line {number}")
                    rows.setdefault(key, []).append(row)
    if len(missing) == len(classes):
        wanted = f"comp4_det_{split}_{classes[0]}.txt"
        others = [path.name for path in files_in(folder, ".txt")]
        have = f", only {listed(others, 3)}" if others else ""
        fix = f"The files of split {split!r} are named like {wanted}; use --split to name another split"
        raise FileFormatError(f"{folder} holds no results of any class{have}", fix)
    if missing:
        names = listed(missing, 3)
        others = _of_no_class(folder, classes, split)
        also = f"; {listed(others, 3)} names no class of the data set" if others else ""
        raise FileFormatError(
            f"{folder} holds no results of {names}{also}",
            "Rename the file to the name of its class"
            if others
            else "Write an empty file for a class without detections, or evaluate the others with --classes",
        )
    return {key: _detections(found, classes, inclusive=True) for key, found in rows.items()}


def splits_of_voc_results(folder: Path, splits: Sequence[str]) -> list[str]:
    """Which of these splits the result files of a folder name."""
    return [split for split in splits if any(folder.glob(f"comp[0-9]*_det_{split}_*.txt"))]


def coco_results(
    detections: Mapping[str, Detections], ids: Mapping[str, CocoId], categories: Sequence[CocoId] | None = None
) -> list[dict[str, Any]]:
    """The detections as a list of COCO results.

    Args:
        ids: COCO's ID of each image, by key. categories: COCO's ID of each class; i + 1 by default.
    """
    results = []
    for key, found in detections.items():
        boxes = found.boxes.astype(float)
        sizes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()
        for box, score, label in zip(sizes, found.scores.tolist(), found.labels.tolist(), strict=True):
            category = label + 1 if categories is None else categories[label]
            results.append({"image_id": ids[key], "category_id": category, "bbox": box, "score": score})
    return results


def read_coco_results(
    path: Path, keys: Mapping[CocoId, str], categories: Mapping[CocoId, int], classes: Sequence[str] = ()
) -> dict[str, Detections]:
    """The detections of each image that has any.

    Args:
        keys: COCO's ID of an image -> its key. categories: COCO's ID of a class -> its label.
        classes: the class names that labels index.

    Raises:
        FileFormatError: not a list of results, or an image or category that the data set lacks.
    """
    fix = "Each needs image_id, category_id, bbox, score"
    values = read_json(path, MAX_BYTES, fix="Name a list of COCO results")
    if not isinstance(values, list):
        raise FileFormatError(f"{path} is not a list of results", fix)
    rows: dict[str, list[_Row]] = {}
    names = FileNames(keys.values())
    for number, value in enumerate(values):
        try:
            image, category = value["image_id"], value["category_id"]
            x, y, w, h, score = (float(v) for v in (*value["bbox"], value["score"]))
        except (KeyError, TypeError, ValueError, OverflowError):
            raise FileFormatError(f"{path}: result {number} is not complete", fix) from None
        key = _key_of(image, value.get("file_name"), keys, names)
        label = categories.get(as_id(category))  # type: ignore[arg-type]
        if key is None:
            stated = (
                ("file_name", value["file_name"]) if isinstance(value.get("file_name"), str) else ("image_id", image)
            )
            raise FileFormatError(f"{path}: result {number} has {_unknown(*stated, keys)}", fix)
        if label is None:
            raise FileFormatError(f"{path}: result {number} has {_unknown('category_id', category, categories)}", fix)
        if not _plausible(x, y, w, h, score):
            raise FileFormatError(f"{path}: result {number} holds a number that is huge or not finite", "Correct it")
        if w < 0 or h < 0:
            raise FileFormatError(f"{path}: result {number} has a negative width or height", "Write x, y, w, h")
        rows.setdefault(key, []).append((score, x, y, w, h, label))
    return {key: _detections(found, classes, inclusive=False) for key, found in rows.items()}


def _key_of(image: Any, file_name: Any, keys: Mapping[CocoId, str], names: FileNames) -> str | None:
    """The key of an image. The name of its file, if a result states it, identifies it better than a number."""
    number = as_id(image)
    try:
        if isinstance(file_name, str):
            return names.find(file_name)
        if number is not None and number in keys:
            return keys[number]
        return names.find(number) if isinstance(number, str) else None
    except AmbiguousNameError:
        return None


def _unknown(member: str, value: Any, known: Mapping[CocoId, Any]) -> str:
    """What to say about an ID that the data set lacks."""
    example = next(iter(known), None)
    kinds = {int: "a number", float: "a number", str: "text"}
    mine, theirs = (kinds.get(type(one), type(one).__name__) for one in (value, example))
    why = f"an ID of the data set is {theirs}, e.g. {example!r}" if mine != theirs else f"IDs look like {example!r}"
    return f"{member} {str(value)[:40]!r}, which the data set lacks ({why})"


def _voc_line(line: str, label: int, where: str) -> tuple[str, _Row]:
    words = line.rsplit(maxsplit=5)
    try:
        score, x1, y1, x2, y2 = (float(word) for word in words[-5:])
    except ValueError:
        words = []
        score = x1 = y1 = x2 = y2 = math.nan
    if len(words) != 6 or not _plausible(score, x1, y1, x2, y2):
        raise FileFormatError(f"{where} is not a detection", "A line is: image score xmin ymin xmax ymax")
    if x2 < x1 - 1 or y2 < y1 - 1:
        raise FileFormatError(f"{where} has an inverted box", "A line is: image score xmin ymin xmax ymax")
    return words[0], (score, x1, y1, x2, y2, label)


def _plausible(*numbers: float) -> bool:
    return all(abs(number) < _MAX_NUMBER for number in numbers)  # False for NaN


def _detections(rows: Sequence[_Row], classes: Sequence[str], inclusive: bool) -> Detections:
    table = np.array(rows, np.float64)
    table = table[np.argsort(-table[:, 0], kind="stable")]
    boxes = from_inclusive(table[:, 1:5], base=1) if inclusive else from_xywh(table[:, 1:5])
    return Detections(boxes, table[:, 0].astype(np.float32), table[:, 5].astype(np.int64), tuple(classes))


def _literal(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)
