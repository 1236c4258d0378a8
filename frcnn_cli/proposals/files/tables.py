"""Our own `.h5`, and the plain formats that people write themselves: `.npz`, `.csv`, `.json`.

| ending | holds |
|---|---|
| .h5 | a proposals file of ours |
| .npz | an array [N, 4], or [N, 5] with scores, per image, named by the image |
| .csv | a header line, and columns for the image, the four of a box, and perhaps the score |
| .json | `{"image": [[four of a box, perhaps score], ...]}` |
| .json | COCO results: `[{"image_id": ..., "bbox": [x, y, w, h], "score": ...}, ...]` |
"""

from __future__ import annotations

import csv
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.errors import FileFormatError, explain_os_error
from frcnn_cli.files import most_bytes
from frcnn_cli.proposals.files.boxfile import BoxFile, as_rows
from frcnn_cli.proposals.files.convention import OURS

_LONGEST_HEADER = 1000  # of an array in an .npz: Python's parser, which reads it, does not like long ones
_IMAGES = ("image", "filename", "file_name", "image_id", "path", "img")
_SCORES = ("score", "confidence", "conf")
_HEADERS = {  # the names of a box's columns tell the order of its numbers
    ("left", "top", "right", "bottom"): "xyxy",
    ("x1", "y1", "x2", "y2"): "xyxy",
    ("xmin", "ymin", "xmax", "ymax"): "xyxy",
    ("x", "y", "w", "h"): "xywh",
    ("x", "y", "width", "height"): "xywh",
    ("cx", "cy", "w", "h"): "cxcywh",
    ("x_center", "y_center", "width", "height"): "cxcywh",
}


def read_ours(path: Path) -> BoxFile:
    """A proposals file that `frcnn` wrote. Raises FileFormatError."""
    from frcnn_cli.store.reader import StageFile
    from frcnn_cli.store.schema import PROPOSALS

    file = StageFile(path, PROPOSALS)

    def read(i: int) -> NDArray[np.float64]:
        arrays = file[i]
        columns = [arrays["boxes"]] + ([arrays["scores"][:, None]] if "scores" in arrays else [])
        return np.concatenate(columns, axis=1).astype(np.float64)

    names = [image.key for image in file.images]
    return BoxFile(path, "proposals of frcnn", len(file), read, names, vars(OURS), file.images)


def read_npz(path: Path) -> BoxFile:
    """Named arrays. Raises FileFormatError, for an array when it is read."""
    try:
        archive = zipfile.ZipFile(path)
    except OSError as error:
        raise explain_os_error(error, path) from None
    except (ValueError, zipfile.BadZipFile) as error:
        raise FileFormatError(f"{path} is not an .npz file ({error})", "Write it with numpy.savez") from None
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    infos = list(members.values())
    claimed = sum(info.file_size for info in infos)
    if claimed > most_bytes(path.stat().st_size):
        raise FileFormatError(f"{path} claims to unpack to {claimed:,} bytes", "Write the file again")

    def read(i: int) -> NDArray[np.float64]:
        info = infos[i]
        try:
            with archive.open(info) as member:
                _check_npy_header(member, info.file_size)
            with archive.open(info) as member:
                array = np.lib.format.read_array(member, allow_pickle=False, max_header_size=_LONGEST_HEADER)
        except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            reason = f"{info.filename} cannot be read ({error})"
            raise FileFormatError(f"{path}: {reason}", "Write numbers, not objects") from None
        return as_rows(array, f"{path}: {info.filename}")

    return BoxFile(path, ".npz by image", len(infos), read, list(members))


def _check_npy_header(member: Any, file_size: int) -> None:
    """Refuses an array whose header claims more than its member of the archive holds."""
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(member, max_header_size=_LONGEST_HEADER)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if int(np.prod(shape, dtype=object)) * dtype.itemsize > file_size:
        raise ValueError(f"it claims the shape {list(shape)}")


def read_csv(path: Path) -> BoxFile:
    """Lines of image and box, separated by commas, semicolons or tabs; the header says which column is which.

    `image,left,top,right,bottom`, as `frcnn export` writes, is in our own convention.

    Raises:
        FileFormatError: a header without what is needed, or a line that does not fit, by its number.
    """
    rows: dict[str, list[list[float]]] = {}
    line = 1
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
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
                if any(cells[i].strip() for i in numbers):  # an image alone on its line has no boxes
                    boxes.append([float(cells[i]) for i in numbers])
    except OSError as error:
        raise explain_os_error(error, path) from None
    except (ValueError, csv.Error) as error:
        raise FileFormatError(f"{path}, line {line}: {error}", "Write a number in each column of a box") from None
    boxes_of = list(rows.values())
    told = vars(OURS) if header[corners[0]] == "left" else {"order": order}

    def read(i: int) -> NDArray[np.float64]:
        return np.array(boxes_of[i], np.float64).reshape(-1, len(numbers))

    return BoxFile(path, ".csv", len(rows), read, list(rows), told)


def _columns(header: list[str], path: Path) -> tuple[int, list[int], str]:
    """Where the image and the box are, and the order of the box's numbers."""
    image = next((header.index(name) for name in _IMAGES if name in header), None)
    for names, order in _HEADERS.items():
        if image is not None and set(names) <= set(header):
            return image, [header.index(name) for name in names], order
    raise FileFormatError(
        f"{path} begins with {','.join(header) or 'an empty line'!r}",
        "Begin with a header: image, then x1,y1,x2,y2 (or xmin,..., x,y,w,h, left,top,right,bottom), and perhaps score",
    )


def read_json(path: Path) -> BoxFile:
    """Boxes by image, or COCO results. Raises FileFormatError."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise explain_os_error(error, path) from None
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} is not JSON ({error})", 'Write {"image": [[x1, y1, x2, y2], ...]}') from None
    if isinstance(content, list):
        return _coco_results(path, content)
    if not isinstance(content, dict):
        raise FileFormatError(f"{path} holds a {type(content).__name__}", 'Write {"image": [[x1, y1, x2, y2], ...]}')
    values = list(content.values())
    names = list(content)
    return BoxFile(
        path, ".json by image", len(names), lambda i: as_rows(values[i], f"{path}: image {names[i]!r}"), names
    )


def _coco_results(path: Path, content: list[Any]) -> BoxFile:
    rows: dict[str, list[list[Any]]] = {}
    scored = all(isinstance(item, dict) and "score" in item for item in content)
    for i, item in enumerate(content):
        box = item.get("bbox") if isinstance(item, dict) else None
        if not isinstance(box, list) or len(box) != 4 or "image_id" not in item:
            raise FileFormatError(
                f"{path}: entry {i} is not a COCO result", 'Write {"image_id": ..., "bbox": [x, y, w, h], "score": ...}'
            )
        rows.setdefault(str(item["image_id"]), []).append([*box, item["score"]] if scored else box)
    values = list(rows.values())
    names = list(rows)
    told = {"order": "xywh", "base": 0, "inclusive": False, "relative": False}
    return BoxFile(
        path, "COCO results", len(names), lambda i: as_rows(values[i], f"{path}: image {names[i]!r}"), names, told
    )
