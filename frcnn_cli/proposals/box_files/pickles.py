"""Pickled proposals of Detectron, detectron2 and MMDetection; `unpickle` reads them without executing anything."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.boxes import to_inclusive
from frcnn_cli.core.convention import OURS, Convention
from frcnn_cli.core.errors import FileFormatError
from frcnn_cli.proposals.box_files.box_file import BoxFile, Items, as_rows, rows_of, with_scores
from frcnn_cli.proposals.box_files.unpickle import PickledArray, unpickle

# detectron2's BoxMode by number; the fifth, rotated boxes, is not supported.
_BOX_MODES: dict[int, dict[str, Any]] = {
    0: {"order": "xyxy", "relative": False, "base": 0, "inclusive": False},
    1: {"order": "xywh", "relative": False, "base": 0, "inclusive": False},
    2: {"order": "xyxy", "relative": True, "base": 0, "inclusive": False},
    3: {"order": "xywh", "relative": True, "base": 0, "inclusive": False},
}


def read_pickle(path: Path) -> BoxFile:
    """One of the layouts below.

    | tool | layout |
    |---|---|
    | Detectron | `dict(boxes=[[n, 4]], scores=[[n]], ids or indexes=[...])` |
    | detectron2 | `dict(boxes, objectness_logits, ids, bbox_mode)`, or with `proposal_` before each name |
    | MMDetection | `{image path: [n, 4 or 5]}` |
    | MMDetection, old | `[[n, 4 or 5], ...]` in the order of the data set |

    Raises:
        FileFormatError: another layout, damage, or a pickle of anything but arrays and containers.
    """
    try:
        return _laid_out(path, unpickle(path))
    except FileFormatError as error:
        raise _named(error, path) from None


def write_detectron(items: Items) -> bytes:
    """`dict(boxes, scores, indexes)` of Detectron's first version, which tools for weak supervision read.

    Coordinates start at 0, and both corners are pixels inside the box. If all keys are numbers, indexes are integers
    (`000004` becomes 4); otherwise they are the keys. Without scores, scores decrease from 1 by rank.
    """
    numbers = all(image.key.isdecimal() for image, _ in items)
    content = {
        "boxes": [to_inclusive(found.boxes, base=0) for _, found in items],
        "scores": [
            (1 - np.arange(len(found.boxes)) / max(len(found.boxes), 1)).astype(np.float32)
            if found.scores is None
            else found.scores
            for _, found in items
        ],
        "indexes": [int(image.key) if numbers else image.key for image, _ in items],
        "convention": Convention(inclusive=True).words,  # for frcnn import; others ignore it
    }
    return pickle.dumps(content, protocol=2)  # which Python 2 reads too


def write_detectron2(items: Items) -> bytes:
    """`dict(ids, boxes, objectness_logits, bbox_mode)`; without scores, logits decrease by 1 per rank from 0."""
    content = {
        "ids": [image.key for image, _ in items],
        "boxes": [found.boxes for _, found in items],
        "objectness_logits": [
            -np.arange(len(found.boxes), dtype=np.float32) if found.scores is None else found.scores
            for _, found in items
        ],
        "bbox_mode": 0,  # XYXY_ABS
    }
    return pickle.dumps(content, protocol=4)


def write_mmdet(items: Items) -> bytes:
    """`{key: [n, 4], or [n, 5] with scores}`."""
    return pickle.dumps({image.key: rows_of(found) for image, found in items}, protocol=4)


def _named(error: FileFormatError, path: Path) -> FileFormatError:
    return error if error.what.startswith(str(path)) else FileFormatError(f"{path}: {error.what}", error.fix)


def _laid_out(path: Path, content: Any) -> BoxFile:
    if isinstance(content, dict):
        named = {_text(key): value for key, value in content.items()}
        plain = {name.removeprefix("proposal_"): value for name, value in named.items()}
        if "boxes" in plain and ("ids" in plain or "indexes" in plain):
            return _detectron(path, plain)
        names = list(named)
        return _listed(path, "MMDetection pickle", list(named.values()), names, vars(OURS))
    if isinstance(content, (list, tuple)):
        return _listed(path, "list of boxes, pickled", list(content), None, {"order": "xyxy", "relative": False})
    raise FileFormatError(
        f"{path} holds a {type(content).__name__}", "It should hold a dict or list of boxes, as read_pickle documents"
    )


def _detectron(path: Path, content: dict[str, Any]) -> BoxFile:
    boxes, ids = _items(content["boxes"], path), _items(content.get("ids", content.get("indexes")), path)
    scores = next((content[name] for name in ("objectness_logits", "scores") if name in content), None)
    per_image = None if scores is None else _items(scores, path)
    if len(ids) != len(boxes) or (per_image is not None and len(per_image) != len(boxes)):
        counts = f"{len(ids)} ids and boxes of {len(boxes)} images"
        if per_image is not None:
            counts += f", with scores of {len(per_image)}"
        raise FileFormatError(f"{path} has {counts}", "Its lists must have equal length")
    stated: dict[str, Any] = {"order": "xyxy", "relative": False}
    kind = "Detectron pickle"
    if "convention" in content:
        try:
            stated = vars(Convention.from_words(content["convention"]))
        except ValueError as error:
            raise FileFormatError(f"{path}: {error}", "Write the file again") from None
    if "bbox_mode" in content or "objectness_logits" in content:
        kind = "detectron2 pickle"
        mode = content.get("bbox_mode", 0)
        mode = mode.value() if isinstance(mode, PickledArray) else mode
        if not isinstance(mode, (int, np.integer)) or int(mode) not in _BOX_MODES:
            raise FileFormatError(
                f"{path} has the bbox_mode {mode!r}", "Use 0 to 3: XYXY_ABS, XYWH_ABS, XYXY_REL, XYWH_REL"
            )
        stated = _BOX_MODES[int(mode)]
    budget = _Budget(path)

    def read(i: int) -> NDArray[np.float64]:
        where = f"{path}: entry {_text(ids[i])!r}"
        rows = as_rows(budget.plain(boxes[i]), where)
        return rows if per_image is None else with_scores(rows, budget.plain(per_image[i]), where)

    return BoxFile(path, kind, len(boxes), read, [_text(name) for name in ids], stated)


def _listed(path: Path, kind: str, values: list[Any], names: list[str] | None, stated: Mapping[str, Any]) -> BoxFile:
    budget = _Budget(path)

    def read(i: int) -> NDArray[np.float64]:
        return as_rows(budget.plain(values[i]), f"{path}: entry {names[i] if names else i!r}")

    return BoxFile(path, kind, len(values), read, names, stated)


def _items(value: Any, path: Path) -> list[Any]:
    value = value.value() if isinstance(value, PickledArray) else value
    if isinstance(value, (list, tuple, np.ndarray)):
        return list(value)
    raise FileFormatError(f"{path} holds a {type(value).__name__} instead of a list", "Write lists, one per image")


def _text(value: Any) -> str:
    value = value.value() if isinstance(value, PickledArray) else value
    if isinstance(value, bytes):
        return value.decode("latin1")
    if isinstance(value, (np.integer, np.ndarray)) and np.size(value) == 1:
        return str(np.asarray(value).reshape(-1)[0])
    if isinstance(value, int) and abs(value) > 1 << 62:
        return "a huge number"
    return str(value) if isinstance(value, (str, int, float)) else repr(type(value))


class _Budget:
    """A limit on the size of entries: a pickle can refer to one list a million times without taking space."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.limit = max(path.stat().st_size, 1 << 16)

    def plain(self, value: Any) -> Any:
        """The value with real arrays instead of `PickledArray`, also inside a list."""
        try:
            return self._plain(value)
        except FileFormatError as error:
            raise _named(error, self.path) from None

    def _plain(self, value: Any) -> Any:
        if isinstance(value, PickledArray):
            return value.value()
        if not isinstance(value, (list, tuple)):
            return value
        size = 0
        plain = []
        for row in value:
            row = row.value() if isinstance(row, PickledArray) else row
            if isinstance(row, (list, tuple)) and any(
                isinstance(cell, (list, tuple, dict, PickledArray)) for cell in row
            ):
                raise FileFormatError("it holds lists in lists in lists", "Write [n, 4] per image")
            size += np.size(row) if isinstance(row, np.ndarray) else len(row) if isinstance(row, (list, tuple)) else 1
            if size > self.limit:
                raise FileFormatError("it claims more numbers than it has bytes", "Write the file again")
            plain.append(row)
        return plain
