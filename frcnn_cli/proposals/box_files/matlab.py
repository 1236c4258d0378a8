"""MATLAB's `.mat` files: a cell array with one entry per image, or the array of one image; and folders with one file
per image.

Version 5 is read by SciPy, after a check of what it would unpack; version 7.3 is HDF5.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.convention import Convention
from frcnn_cli.core.errors import FileFormatError, explain_os_error
from frcnn_cli.core.files import check_regular, files_in
from frcnn_cli.proposals.box_files.box_file import BoxFile, Items, as_rows, with_scores
from frcnn_cli.system.untrusted import max_unpacked_bytes

_BOXES = ("boxes", "all_boxes", "bboxes", "proposals")  # names of variables, in order of preference
_NAMES = ("images", "image_names", "names", "ids", "files")
_SCORES = ("scores", "bboxes_scores", "boxes_scores")


def read_mat(path: Path) -> BoxFile:
    """Boxes in the variable `boxes` (or `all_boxes`, `bboxes`, `proposals`, or the only one that can be boxes).

    A cell array has one entry per image, named by a cell array `images` of the same length if there is one; a numeric
    array [N, 4] belongs to the image that the file is named after (`000004.mat`, `000004_boxes.mat`). A text variable
    `convention`, which `write_mat` writes, states the meaning of the numbers.

    Raises:
        FileFormatError: not a .mat file, damaged, without boxes, or with claims of more data than a file of its size
            can hold.
    """
    variables = _load(path)
    boxes = next((variables[name] for name in _BOXES if name in variables), None)
    if boxes is None:
        fitting = [name for name, value in variables.items() if _is_boxes(value)]
        if len(fitting) != 1:
            have = ", ".join(variables) or "nothing"
            raise FileFormatError(
                f"{path} has no variable that clearly holds boxes; it has {have}",
                "Rename the variable that holds them to boxes",
            )
        boxes = variables[fitting[0]]
    scores = next((variables[name] for name in _SCORES if name in variables), None)
    if not isinstance(boxes, list):
        rows = as_rows(boxes, str(path))
        if scores is not None and not isinstance(scores, list) and rows.shape[1] == 4:
            rows = with_scores(rows, scores, str(path))
        return BoxFile(path, "MATLAB array of one image", 1, lambda i: rows, [_image_name(path)])
    stated = _stated(variables.get("convention"))
    names = next((variables[name] for name in _NAMES if name in variables), None)
    known = None
    if isinstance(names, list) and len(names) == len(boxes) and all(isinstance(name, str) for name in names):
        known = names

    def read(i: int) -> NDArray[np.float64]:
        where = f"{path}: entry {known[i] if known else i + 1!r}"
        rows = as_rows(boxes[i], where)
        if isinstance(scores, list) and len(scores) == len(boxes) and rows.shape[1] == 4:
            return with_scores(rows, scores[i], where)
        return rows

    return BoxFile(path, "MATLAB cell array", len(boxes), read, known, stated)


def write_mat(items: Items) -> bytes:
    """The layout of the published selective-search boxes: cell arrays `images` and `boxes` (y1 x1 y2 x2, 1-based, the
    last pixel inside), and `scores` if all images have them; and `convention`, for `read_mat`."""
    import scipy.io

    published = Convention("yxyx", base=1, inclusive=True)
    columns: dict[str, list[Any]] = {
        "images": [image.key for image, _ in items],
        "boxes": [published.from_boxes(found.boxes, image.width, image.height) for image, found in items],
    }
    if all(found.scores is not None for _, found in items):
        columns["scores"] = [np.asarray(found.scores, np.float64)[:, None] for _, found in items]
    cells: dict[str, Any] = {"convention": published.words}  # whole pixels away from the border are ambiguous
    for name, values in columns.items():
        cells[name] = np.empty((1, len(values)), object)
        for i, value in enumerate(values):
            cells[name][0, i] = value
    written = io.BytesIO()
    scipy.io.savemat(written, cells, do_compression=True)
    return written.getvalue()


def _stated(convention: Any) -> dict[str, Any]:
    """The convention that `write_mat` states, in the form of `Convention.words`."""
    try:
        return vars(Convention.from_words(convention))
    except ValueError:
        return {}


def read_folder(path: Path) -> BoxFile:
    """A folder with one `.mat` or `.npy` per image, named like the images."""
    files = files_in(path, ".mat", ".npy")
    if not files:
        raise FileFormatError(f"{path} holds neither .mat nor .npy files", "Name a file, or a folder of those")

    def read(i: int) -> NDArray[np.float64]:
        if files[i].suffix.lower() == ".mat":
            one = read_mat(files[i])
            if one.count != 1:
                raise FileFormatError(f"{files[i]} has boxes of {one.count} images", "Name the file, not its folder")
            return one.read(0)
        try:
            return as_rows(np.load(files[i], mmap_mode="r", allow_pickle=False), str(files[i]))
        except (OSError, ValueError, EOFError, SyntaxError) as error:
            raise FileFormatError(f"{files[i]} cannot be read ({error})", "Write it with numpy.save") from None

    return BoxFile(path, "folder with a file per image", len(files), read, [_image_name(file) for file in files])


def _image_name(path: Path) -> str:
    return path.stem.removesuffix("_boxes").removesuffix("_proposals")


def _is_boxes(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) > 0 and not any(isinstance(item, (str, list)) for item in value)
    return isinstance(value, np.ndarray) and value.ndim == 2 and value.shape[1] in (4, 5)


def _load(path: Path) -> Mapping[str, Any]:
    """Variables by name: arrays, strings, and lists for cell arrays."""
    try:
        with open(check_regular(path, FileFormatError), "rb") as file:
            head = file.read(512)
    except OSError as error:
        raise explain_os_error(error, path) from None
    if head[:10] == b"MATLAB 7.3" or head[:4] == b"\x89HDF":
        from frcnn_cli.store.matlab import read_v73

        return read_v73(path)
    try:
        plain = _plain_variables(path.read_bytes())
        import scipy.io

        found = scipy.io.loadmat(path, variable_names=plain, squeeze_me=False, struct_as_record=True)
    except FileFormatError as error:
        raise FileFormatError(f"{path} {error.what}", error.fix) from None
    except Exception as error:  # SciPy reports damage with many exception types
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise FileFormatError(f"{path} is not a .mat file that can be read ({reason})", "Save it again") from None
    return {name: _plain(value) for name, value in found.items() if not name.startswith("__")}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [_plain(item) for item in value.ravel(order="F")]
    if isinstance(value, np.ndarray) and value.dtype.kind == "U":
        return "".join(value.ravel().tolist())
    return value


_COMPRESSED, _MATRIX = 15, 14  # types of elements
_CELL, _CHAR, _NUMERIC = 1, 4, range(6, 16)  # classes of arrays that boxes may consist of
_COMPLEX = 0x08  # a flag of arrays
_NUMBER_SIZES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}  # bytes per number, by type
_TEXT_SIZES = {1: 1, 2: 1, 3: 2, 4: 2, 16: 0, 17: 2, 18: 4}  # UTF-8 has letters of several lengths


def _plain_variables(content: bytes) -> list[str]:
    """The names of the numeric, text and cell arrays of a version 5 file, each checked completely.

    Variables of other classes (structures, objects, functions) are ignored, but refused inside cells. Streams that
    unpack to more than `max_unpacked_bytes`, and arrays with more elements than they have bytes, are refused.
    """
    if len(content) < 128 or content[126:128] not in (b"IM", b"MI"):
        raise FileFormatError("is not a .mat file", "Save it from MATLAB, or with scipy.io.savemat")
    order = "<" if content[126:128] == b"IM" else ">"
    at, left = 128, max_unpacked_bytes(len(content))
    names = []
    while at + 8 <= len(content):
        kind, length = struct.unpack(order + "II", content[at : at + 8])
        body: bytes | memoryview = content[at + 8 : at + 8 + length]
        if len(body) < length:
            raise FileFormatError("is truncated", "Get the file again")
        if kind == _COMPRESSED:
            packed = zlib.decompressobj()
            inner = packed.decompress(body, left)
            left -= len(inner)
            if packed.unconsumed_tail or left <= 0:
                raise FileFormatError("unpacks to far more data than boxes need", "Save it without compression")
            if len(inner) < 8:
                raise FileFormatError("is damaged (an empty variable)", "Save it again")
            kind, body = struct.unpack(order + "I", inner[:4])[0], memoryview(inner)[8:]
        if kind != _MATRIX:
            raise FileFormatError("is damaged (an element that is not a variable)", "Save it again")
        name = _walk(memoryview(body), order, 0)
        if name is not None:
            names.append(name)
        at += 8 + length
    return names


def _walk(body: memoryview, order: str, depth: int) -> str | None:
    """Checks one array and those in its cells; returns its name, or None if its class is ignored."""
    if not len(body):
        return ""  # an empty cell
    damaged = FileFormatError("is damaged (the header of an array)", "Save it again")
    if len(body) < 24 or struct.unpack(order + "II", body[:8]) != (6, 8):
        raise damaged
    word = struct.unpack(order + "I", body[8:12])[0]
    kind, flags = word & 0xFF, word >> 8 & 0xFF
    if kind not in (_CELL, _CHAR) and kind not in _NUMERIC:
        if depth:
            raise FileFormatError(
                f"has cells of class {kind}, which is not an array", "Save a numeric array in each cell"
            )
        return None
    tag, rank_bytes = struct.unpack(order + "II", body[16:24])
    if tag != 5 or rank_bytes % 4 or not 8 <= rank_bytes <= 128 or len(body) < 24 + rank_bytes:
        raise damaged
    elements = 1
    for n in struct.unpack(f"{order}{rank_bytes // 4}i", body[24 : 24 + rank_bytes]):
        if n < 0:
            raise damaged
        elements *= n
    if elements * (8 if kind == _CELL else 1) > len(body):
        raise FileFormatError(f"claims {elements:,} elements in {len(body):,} bytes", "Save it again")
    at = 24 + -(-rank_bytes // 8) * 8
    if len(body) < at + 8:
        raise damaged
    tag, length = struct.unpack(order + "II", body[at : at + 8])
    if tag >> 16:  # a name of up to four letters is stored in its tag
        name = bytes(body[at + 4 : at + 4 + min(tag >> 16, 4)])
        at += 8
    else:
        name = bytes(body[at + 8 : at + 8 + length])
        at += 8 + -(-length // 8) * 8
    if kind == _CELL:
        if depth:
            raise FileFormatError("has cells in cells", "Save one cell per image, with an array in it")
        while at + 8 <= len(body):
            tag, length = struct.unpack(order + "II", body[at : at + 8])
            if tag != _MATRIX or at + 8 + length > len(body):
                raise FileFormatError("is damaged (a cell)", "Save it again")
            _walk(body[at + 8 : at + 8 + length], order, depth + 1)
            at += 8 + length
        return name.decode("latin1")
    parts = 2 if kind != _CHAR and flags & _COMPLEX else 1
    for _ in range(parts):
        at = _check_data(body, at, order, elements, _TEXT_SIZES if kind == _CHAR else _NUMBER_SIZES)
    return name.decode("latin1")


def _check_data(body: memoryview, at: int, order: str, elements: int, sizes: Mapping[int, int]) -> int:
    """Checks the type and the length of the numbers of an array, which SciPy takes for granted: with a type that does
    not exist it reads memory that is not its own. Returns where the next part begins."""
    damaged = FileFormatError("is damaged (the numbers of an array)", "Save it again")
    if len(body) < at + 8:
        raise damaged
    kind, length = struct.unpack(order + "II", body[at : at + 8])
    small = kind >> 16
    if small:  # up to four bytes are stored in the tag
        kind, length, begin, end = kind & 0xFFFF, small, at + 4, at + 8
    else:
        begin, end = at + 8, at + 8 + -(-length // 8) * 8
    if kind not in sizes or begin + length > len(body) or (small and length > 4):
        raise damaged
    size = sizes[kind]
    if size and length != elements * size:
        raise damaged
    return end
