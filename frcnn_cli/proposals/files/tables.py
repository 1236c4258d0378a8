"""Our own `.h5`, and the plain formats that people write themselves: `.npz`, `.csv`, `.json`.

| ending | holds |
|---|---|
| .h5 | a proposals file of ours |
| .npz | an array [N, 4], or [N, 5] with scores, per image, named by the image |
| .csv | a header line and columns image, four of a box (by default x1, y1, x2, y2), and perhaps score |
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
from frcnn_cli.proposals.files.boxfile import BoxFile, as_rows
from frcnn_cli.proposals.files.convention import OURS
from frcnn_cli.store.files import most_bytes

_HEADERS: dict[tuple[str, ...], str] = {  # the columns of a .csv tell the order
    ("x1", "y1", "x2", "y2"): "xyxy",
    ("xmin", "ymin", "xmax", "ymax"): "xyxy",
    ("y1", "x1", "y2", "x2"): "yxyx",
    ("ymin", "xmin", "ymax", "xmax"): "yxyx",
    ("x", "y", "w", "h"): "xywh",
    ("x", "y", "width", "height"): "xywh",
    ("y", "x", "h", "w"): "yxhw",
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

    def read(i: int) -> NDArray[np.float64]:
        info = infos[i]
        if info.file_size > most_bytes(info.compress_size):
            raise FileFormatError(f"{path}: {info.filename} claims {info.file_size:,} bytes", "Write the file again")
        try:
            with archive.open(info) as member:
                _check_npy_header(member, info.file_size)
            with archive.open(info) as member:
                array = np.lib.format.read_array(member, allow_pickle=False)
        except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            reason = f"{info.filename} cannot be read ({error})"
            raise FileFormatError(f"{path}: {reason}", "Write numbers, not objects") from None
        return as_rows(array, f"{path}: {info.filename}")

    return BoxFile(path, ".npz by image", len(infos), read, list(members))


def _check_npy_header(member: Any, file_size: int) -> None:
    """Refuses an array whose header claims more than its member of the archive holds."""
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(member)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if int(np.prod(shape, dtype=object)) * dtype.itemsize > file_size:
        raise ValueError(f"it claims the shape {list(shape)}")


def read_csv(path: Path) -> BoxFile:
    """Lines of image and box. Raises FileFormatError with the line."""
    rows: dict[str, list[list[float]]] = {}
    line = 1
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = [name.strip().lower() for name in next(reader, [])]
            order = _HEADERS.get(tuple(header[1:5]))
            if header[:1] != ["image"] or order is None or header[5:] not in ([], ["score"]):
                raise FileFormatError(
                    f"{path} begins with {','.join(header) or 'nothing'!r}",
                    "Begin with the line image,x1,y1,x2,y2,score (or image,x,y,w,h,score)",
                )
            for cells in reader:
                line = reader.line_num
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise ValueError(f"{len(cells)} columns instead of {len(header)}")
                boxes = rows.setdefault(cells[0].strip(), [])
                if any(cell.strip() for cell in cells[1:]):  # an image alone on its line has no boxes
                    boxes.append([float(cell) for cell in cells[1:]])
    except OSError as error:
        raise explain_os_error(error, path) from None
    except (ValueError, csv.Error) as error:
        raise FileFormatError(f"{path}, line {line}: {error}", "Write image,x1,y1,x2,y2 and perhaps score") from None
    boxes_of = list(rows.values())

    def read(i: int) -> NDArray[np.float64]:
        return np.array(boxes_of[i], np.float64).reshape(-1, len(header) - 1)

    return BoxFile(path, ".csv", len(rows), read, list(rows), {"order": order})


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
        if not isinstance(item, dict) or "image_id" not in item or not isinstance(item.get("bbox"), list):
            raise FileFormatError(
                f"{path}: entry {i} is not a COCO result", 'Write {"image_id": ..., "bbox": [x, y, w, h], "score": ...}'
            )
        box = item["bbox"][:4] + ([item["score"]] if scored else [])
        rows.setdefault(str(item["image_id"]), []).append(box)
    values = list(rows.values())
    names = list(rows)
    told = {"order": "xywh", "base": 0, "inclusive": False, "relative": False}
    return BoxFile(
        path, "COCO results", len(names), lambda i: as_rows(values[i], f"{path}: image {names[i]!r}"), names, told
    )
