"""Pickled proposals of Detectron, detectron2 and MMDetection, read without running anything.

A pickle is a program. This one may build dicts, lists, tuples, strings and numbers, and what NumPy writes for arrays
and scalars; every other name in it is refused. Even NumPy's own functions are not called: the pieces of an array are
kept as they come, and become an array only after their sizes are checked.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.errors import FileFormatError, explain_os_error
from frcnn_cli.proposals.files.boxfile import BoxFile, as_rows, with_scores
from frcnn_cli.proposals.files.convention import OURS

# detectron2's BoxMode by number; the fifth, turned boxes, is not for us.
_BOX_MODES: dict[int, dict[str, Any]] = {
    0: {"order": "xyxy", "relative": False, "base": 0, "inclusive": False},
    1: {"order": "xywh", "relative": False, "base": 0, "inclusive": False},
    2: {"order": "xyxy", "relative": True, "base": 0, "inclusive": False},
    3: {"order": "xywh", "relative": True, "base": 0, "inclusive": False},
}


def read_pickle(path: Path) -> BoxFile:
    """One of the layouts below.

    | who | layout |
    |---|---|
    | Detectron | `dict(boxes=[[n, 4]], scores=[[n]], ids or indexes=[...])` |
    | detectron2 | `dict(boxes, objectness_logits, ids, bbox_mode)`, or with `proposal_` before each name |
    | MMDetection | `{image path: [n, 4 or 5]}` |
    | MMDetection, old | `[[n, 4 or 5], ...]` in the order of the data set |

    Raises:
        FileFormatError: another layout, damage, or a pickle that wants more than arrays and containers.
    """
    try:
        return _laid_out(path, _load(path))
    except FileFormatError as error:
        raise _named(error, path) from None


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
        counts = f"{len(boxes)} images' boxes, {len(ids)} ids"
        raise FileFormatError(f"{path} has {counts}", "Its lists should be of one length")
    told: dict[str, Any] = {"order": "xyxy", "relative": False}
    kind = "Detectron pickle"
    if "bbox_mode" in content or "objectness_logits" in content:
        kind = "detectron2 pickle"
        mode = content.get("bbox_mode", 0)
        mode = mode.value() if isinstance(mode, _Array) else mode
        if not isinstance(mode, (int, np.integer)) or int(mode) not in _BOX_MODES:
            raise FileFormatError(
                f"{path} has the bbox_mode {mode!r}", "XYXY_ABS, XYWH_ABS, XYXY_REL, XYWH_REL are 0 to 3"
            )
        told = _BOX_MODES[int(mode)]
    budget = _Budget(path)

    def read(i: int) -> NDArray[np.float64]:
        where = f"{path}: entry {_text(ids[i])!r}"
        rows = as_rows(budget.plain(boxes[i]), where)
        return rows if per_image is None else with_scores(rows, budget.plain(per_image[i]), where)

    return BoxFile(path, kind, len(boxes), read, [_text(name) for name in ids], told)


def _listed(path: Path, kind: str, values: list[Any], names: list[str] | None, told: Mapping[str, Any]) -> BoxFile:
    budget = _Budget(path)

    def read(i: int) -> NDArray[np.float64]:
        return as_rows(budget.plain(values[i]), f"{path}: entry {names[i] if names else i!r}")

    return BoxFile(path, kind, len(values), read, names, told)


def _items(value: Any, path: Path) -> list[Any]:
    value = value.value() if isinstance(value, _Array) else value
    if isinstance(value, (list, tuple, np.ndarray)):
        return list(value)
    raise FileFormatError(f"{path} holds a {type(value).__name__} where a list is meant", "Write lists, one an image")


def _text(value: Any) -> str:
    value = value.value() if isinstance(value, _Array) else value
    if isinstance(value, bytes):
        return value.decode("latin1")
    if isinstance(value, (np.integer, np.ndarray)) and np.size(value) == 1:
        return str(np.asarray(value).reshape(-1)[0])
    if isinstance(value, int) and abs(value) > 1 << 62:
        return "a huge number"
    return str(value) if isinstance(value, (str, int, float)) else repr(type(value))


class _Budget:
    """What reading entries may unfold: a pickle can hold one list a million times over, in no space."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.limit = max(path.stat().st_size, 1 << 16)

    def plain(self, value: Any) -> Any:
        """Arrays for our stand-ins, in an array or in a list of lists."""
        try:
            return self._plain(value)
        except FileFormatError as error:
            raise _named(error, self.path) from None

    def _plain(self, value: Any) -> Any:
        if isinstance(value, _Array):
            return value.value()
        if not isinstance(value, (list, tuple)):
            return value
        size = 0
        plain = []
        for row in value:
            row = row.value() if isinstance(row, _Array) else row
            if isinstance(row, (list, tuple)) and any(isinstance(cell, (list, tuple, dict, _Array)) for cell in row):
                raise FileFormatError("it holds lists in lists in lists", "Write [n, 4] an image")
            size += np.size(row) if isinstance(row, np.ndarray) else len(row) if isinstance(row, (list, tuple)) else 1
            if size > self.limit:
                raise FileFormatError("it claims more numbers than it has bytes", "Write it again")
            plain.append(row)
        return plain


def _load(path: Path) -> Any:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise explain_os_error(error, path) from None
    try:
        return _Unpickler(io.BytesIO(content), encoding="latin1").load()
    except FileFormatError:
        raise
    except RecursionError:
        raise FileFormatError(f"{path} is nested too deeply", "Write arrays and plain containers") from None
    except Exception as error:  # what a damaged pickle raises is whatever its bytes make of it
        reason = f"{type(error).__name__}: {error}"[:200]
        raise FileFormatError(f"{path} is not a whole pickle ({reason})", "Write it again with pickle.dump") from None


class _Array:
    """An array in the making: the pieces that NumPy pickles, taken as they come."""

    def __init__(self, *_: Any) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def value(self) -> Any:
        """The array; a list for an array of objects."""
        if len(self.state) != 5:
            raise FileFormatError("an array lacks its content", "Write the file again")
        _, shape, dtype, fortran, raw = self.state
        kind = dtype.value() if isinstance(dtype, _Dtype) else None
        if kind is None:
            return list(raw) if isinstance(raw, list) else []
        if isinstance(raw, str):  # Python 2 wrote bytes as text
            raw = raw.encode("latin1")
        if not isinstance(raw, (bytes, bytearray)) or not isinstance(shape, tuple):
            raise FileFormatError("an array's content is not bytes", "Write the file again")
        if 0 in shape:  # however long its other sides are said to be
            return np.zeros((0, 4))
        try:
            return np.frombuffer(raw, kind).reshape(shape, order="F" if fortran else "C")
        except (ValueError, TypeError, OverflowError) as error:
            raise FileFormatError(f"an array does not fit its shape ({error})", "Write the file again") from None


class _Dtype:
    """A NumPy dtype in the making; numbers of 1 to 8 bytes, strings, or objects."""

    def __init__(self, code: Any = "", *_: Any) -> None:
        self.code = code.decode("latin1") if isinstance(code, bytes) else code
        self.order: Literal["<", ">", "="] = "="

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1:
            order = state[1].decode("latin1") if isinstance(state[1], bytes) else state[1]
            self.order = "<" if order == "<" else ">" if order == ">" else "="

    def value(self) -> np.dtype[Any] | None:
        """None for objects."""
        code = self.code if isinstance(self.code, str) else ""
        if code.startswith("O"):
            return None
        if code in ("b1", "f2", "f4", "f8") or (code[:1] in ("i", "u") and code[1:] in ("1", "2", "4", "8")):
            return np.dtype(code).newbyteorder(self.order)
        if code[:1] in ("S", "U") and code[1:].isdigit() and int(code[1:]) < 4096:
            return np.dtype(code).newbyteorder(self.order)
        raise FileFormatError(f"it holds numbers of the type {code!r}", "Write floats or integers")


def _scalar(dtype: Any, raw: Any = b"") -> Any:
    kind = dtype.value() if isinstance(dtype, _Dtype) else None
    raw = raw.encode("latin1") if isinstance(raw, str) else raw
    if kind is None or not isinstance(raw, bytes) or len(raw) != kind.itemsize:
        raise FileFormatError("it holds a scalar that is no number", "Write floats or integers")
    return np.frombuffer(raw, kind)[0]


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.state = (1, shape, dtype, order == "F", raw)
    return array


def _encoded(text: Any, encoding: Any = "latin1") -> bytes:
    """Python 3 writes bytes so under old protocols."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise FileFormatError("it encodes something odd", "Write arrays and plain containers")
    return text.encode("latin1")


def _ordered(items: Any = ()) -> dict[Any, Any]:
    """An OrderedDict; Python 2 hands its items over as a list of pairs."""
    if not isinstance(items, (list, tuple)) or not all(
        isinstance(item, (list, tuple)) and len(item) == 2 for item in items
    ):
        raise FileFormatError("it builds an OrderedDict of something odd", "Write a dict")
    return {_key(key): value for key, value in items}


def _key(key: Any) -> Any:
    """A key that is quickly hashed: a tuple can hold one tuple twice, and that one another, sixty deep."""
    if not isinstance(key, (str, bytes, int, float)):
        raise FileFormatError(f"it has a {type(key).__name__} as a key", "Write names or numbers as keys")
    return key


def _box_mode(value: Any) -> Any:
    return value


_NUMPY_MODULES = (
    "numpy.core.multiarray",
    "numpy._core.multiarray",
    "numpy.core.numeric",
    "numpy._core.numeric",
    "numpy",
)
_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    **{(module, "_reconstruct"): _Array for module in _NUMPY_MODULES},
    **{(module, "scalar"): _scalar for module in _NUMPY_MODULES},
    **{(module, "_frombuffer"): _from_buffer for module in _NUMPY_MODULES},
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encoded,
    ("collections", "OrderedDict"): _ordered,
    **{(f"detectron2.structures{end}", "BoxMode"): _box_mode for end in ("", ".boxes")},
}


_Python: Any = pickle._Unpickler


class _Unpickler(_Python):  # type: ignore[misc]
    """Python's own unpickler, for the compiled one makes room for as many memo slots as the file says."""

    dispatch: ClassVar[dict[int, Any]] = dict(_Python.dispatch)

    def load_build(self) -> None:
        """State goes to our stand-ins alone: it could rewrite anything else."""
        state = self.stack.pop()
        if not isinstance(self.stack[-1], (_Array, _Dtype)):
            raise FileFormatError("it sets the state of something odd", "Write arrays and plain containers")
        self.stack[-1].__setstate__(state)

    dispatch[pickle.BUILD[0]] = load_build

    def load_setitem(self) -> None:
        _key(self.stack[-2])
        _Python.load_setitem(self)

    dispatch[pickle.SETITEM[0]] = load_setitem

    def load_setitems(self) -> None:
        for key in self.stack[::2]:
            _key(key)
        _Python.load_setitems(self)

    dispatch[pickle.SETITEMS[0]] = load_setitems

    def load_dict(self) -> None:
        for key in self.stack[::2]:
            _key(key)
        _Python.load_dict(self)

    dispatch[pickle.DICT[0]] = load_dict

    def load_set(self) -> None:
        raise FileFormatError("it holds a set", "Write lists")

    dispatch[pickle.EMPTY_SET[0]] = dispatch[pickle.ADDITEMS[0]] = dispatch[pickle.FROZENSET[0]] = load_set

    def load_bytearray8(self) -> None:
        """Python's own makes room for as much as the file says, before it reads."""
        (length,) = struct.unpack("<Q", self.read(8))
        content = self.read(min(length, 1 << 40))
        if len(content) < length:
            raise FileFormatError("it is truncated", "Write the file again")
        self.append(content)

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise FileFormatError(
                f"it wants {module}.{name}, which is not loaded from a file",
                "Write NumPy arrays, dicts, lists, numbers and strings alone",
            )
        return _ALLOWED[module, name]

    def get_extension(self, code: int) -> None:
        raise FileFormatError(f"it wants the registered extension {code}", "Write arrays and plain containers")

    def persistent_load(self, pid: Any) -> None:
        raise FileFormatError("it points to things outside of it", "Write arrays and plain containers")
