"""Vectors as tab-separated text, one image per line, without a header: of bottom-up-attention (Anderson et al., 2018)
and of LXMERT (Tan and Bansal, 2019). Arrays are base64 of their bytes, row by row."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.errors import FileFormatError
from frcnn_cli.core.files import check_regular, replacing
from frcnn_cli.detections.vectors.box_vectors import BoxVectors, checked_key

_BOTTOM_UP = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")
_LXMERT = (
    *("img_id", "img_h", "img_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf"),
    *("num_boxes", "boxes", "features"),
)
_MOST_BOXES = 100_000  # per image
_LONGEST = 1 << 30  # characters per line: 100,000 boxes with 2,048 numbers each


def write_bottom_up(images: Iterable[BoxVectors], path: Path) -> int:
    """Writes a file of bottom-up-attention, atomically; returns the number of images. Vectors are written as float32,
    which other programs expect.

    Raises:
        FrcnnError: the system refuses to write.
    """
    return _write(path, (_bottom_up_row(image) for image in images))


def write_lxmert(images: Iterable[BoxVectors], path: Path) -> int:
    """Writes a file of LXMERT, atomically; returns the number of images. Detectors here know no attributes: their
    classes and confidences are 0."""
    return _write(path, (_lxmert_row(image) for image in images))


def read_bottom_up(path: Path) -> Iterator[BoxVectors]:
    """The images of a file of bottom-up-attention, one after the other.

    Raises:
        FileFormatError: a line that is not one of such a file; its number is stated.
    """
    for row, where in _rows(path, _BOTTOM_UP):
        boxes, vectors = _boxes_and_vectors(row, where)
        yield _made(row["image_id"], row["image_h"], row["image_w"], boxes, vectors, where)


def read_lxmert(path: Path) -> Iterator[BoxVectors]:
    """The images of a file of LXMERT; attributes are skipped. Raises FileFormatError as `read_bottom_up`."""
    for row, where in _rows(path, _LXMERT):
        boxes, vectors = _boxes_and_vectors(row, where)
        labels = _decoded(row["objects_id"], np.int64, len(boxes), where)
        scores = _decoded(row["objects_conf"], np.float32, len(boxes), where)
        yield _made(row["img_id"], row["img_h"], row["img_w"], boxes, vectors, where, labels=labels, scores=scores)


def _bottom_up_row(image: BoxVectors) -> Iterator[bytes]:
    yield from (text.encode() for text in (image.key, str(image.width), str(image.height), str(len(image))))
    yield from (_encoded(image.boxes, np.float32), _encoded(image.vectors, np.float32))


def _lxmert_row(image: BoxVectors) -> Iterator[bytes]:
    count = len(image)
    labels = image.labels if image.labels is not None else np.zeros(count)
    scores = image.scores if image.scores is not None else np.zeros(count)
    yield from (text.encode() for text in (image.key, str(image.height), str(image.width)))
    for values, kind in ((labels, np.int64), (scores, np.float32), (np.zeros(count), np.int64)):
        yield _encoded(values, kind)
    yield _encoded(np.zeros(count), np.float32)
    yield str(count).encode()
    yield from (_encoded(image.boxes, np.float32), _encoded(image.vectors, np.float32))


def _write(path: Path, rows: Iterable[Iterator[bytes]]) -> int:
    count = 0
    with replacing(path) as temporary, open(temporary, "wb") as file:
        for row in rows:
            file.write(b"\t".join(row) + b"\n")
            count += 1
    return count


def _encoded(values: NDArray[Any], kind: Any) -> bytes:
    return base64.b64encode(np.ascontiguousarray(values, kind).data)


def _rows(path: Path, fields: tuple[str, ...]) -> Iterator[tuple[dict[str, str], str]]:
    """The fields of each line, and where it is, for messages."""
    with open(check_regular(path, FileFormatError), "rb") as file:
        number = 0
        while line := file.readline(_LONGEST):
            number += 1
            where = f"{path}, line {number}"
            parts = line.rstrip(b"\r\n").split(b"\t")
            if len(parts) != len(fields) or not line.endswith(b"\n"):
                wrong = f"{where} has {len(parts)} fields, not {len(fields)} ({', '.join(fields)})"
                raise FileFormatError(wrong if line.endswith(b"\n") else f"{where} is truncated", "Check the format")
            try:
                yield dict(zip(fields, (part.decode() for part in parts), strict=True)), where
            except UnicodeDecodeError:
                raise FileFormatError(f"{where} is not text", "Check the format") from None


def _boxes_and_vectors(row: dict[str, str], where: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    count = _number(row["num_boxes"], "num_boxes", where)
    if count > _MOST_BOXES:
        raise FileFormatError(f"{where} states {count} boxes", f"At most {_MOST_BOXES} per image are read")
    boxes = _decoded(row["boxes"], np.float32, 4 * count, where).reshape(count, 4)
    vectors = _decoded(row["features"], np.float32, None, where)
    if count == 0 or len(vectors) % count:
        if count == 0 and len(vectors) == 0:
            return boxes, vectors.reshape(0, 0)
        raise FileFormatError(f"{where} holds {len(vectors)} numbers for {count} boxes", "Check the format")
    return boxes, vectors.reshape(count, -1)


def _decoded(text: str, kind: Any, count: int | None, where: str) -> NDArray[Any]:
    try:
        content = base64.b64decode(text, validate=True)
        values = np.frombuffer(content, kind).copy()
    except (binascii.Error, ValueError) as error:
        raise FileFormatError(f"{where} is not base64 of {np.dtype(kind)} ({error})", "Check the format") from None
    if count is not None and len(values) != count:
        raise FileFormatError(f"{where} holds {len(values)} numbers where {count} are expected", "Check the format")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise FileFormatError(f"{where} holds NaN or infinity", "Compute the vectors again")
    return values


def _number(text: str, field: str, where: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise FileFormatError(f"{where}: {field} is {text[:30]!r}", "Check the format") from None
    if not 0 <= value <= 1 << 24:
        raise FileFormatError(f"{where}: {field} is {value}", "Check the format")
    return value


def _made(
    key: str, height: str, width: str, boxes: NDArray[Any], vectors: NDArray[Any], where: str, **more: NDArray[Any]
) -> BoxVectors:
    sides = _number(height, "the height", where), _number(width, "the width", where)
    return BoxVectors(checked_key(key, where), sides[0], sides[1], boxes, vectors, **more)
