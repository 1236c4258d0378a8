"""Unpickling without executing anything.

A pickle is a program. Here it may build only dicts, lists, tuples, strings and numbers, and what NumPy writes for
arrays and scalars; every other name in it is refused. Not even NumPy's own functions are called: the parts of an array
are stored (in a `PickledArray`), and become an array only after their sizes are checked.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from frcnn_cli.core.errors import FileFormatError, explain_os_error
from frcnn_cli.core.files import check_regular


def unpickle(path: Path) -> Any:
    """The content of a pickle: containers, numbers and text, and a `PickledArray` for each array.

    Raises:
        FileFormatError: it holds anything else, is damaged, or claims more data than it has.
    """
    try:
        content = check_regular(path, FileFormatError).read_bytes()
    except OSError as error:
        raise explain_os_error(error, path) from None
    try:
        return _Unpickler(io.BytesIO(content), encoding="latin1").load()
    except FileFormatError:
        raise
    except RecursionError:
        raise FileFormatError(f"{path} is nested too deeply", "Write arrays and plain containers") from None
    except Exception as error:  # a damaged pickle can raise any exception
        reason = f"{type(error).__name__}: {error}"[:200]
        raise FileFormatError(
            f"{path} is not a complete pickle ({reason})", "Write it again with pickle.dump"
        ) from None


class PickledArray:
    """The parts of an array that NumPy pickles, stored without building the array."""

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
        if 0 in shape:  # whatever its other sides claim
            return np.zeros((0, 4))
        try:
            return np.frombuffer(raw, kind).reshape(shape, order="F" if fortran else "C")
        except (ValueError, TypeError, OverflowError) as error:
            raise FileFormatError(f"an array does not match its shape ({error})", "Write the file again") from None


class _Dtype:
    """The parts of a NumPy dtype; numbers of 1 to 8 bytes, strings, or objects."""

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
        raise FileFormatError("it holds a scalar that is not a number", "Write floats or integers")
    return np.frombuffer(raw, kind)[0]


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> PickledArray:
    array = PickledArray()
    array.state = (1, shape, dtype, order == "F", raw)
    return array


def _encoded(text: Any, encoding: Any = "latin1") -> bytes:
    """Bytes, as Python 3 writes them with old protocols."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise FileFormatError("it encodes something other than text", "Write arrays and plain containers")
    return text.encode("latin1")


def _empty_bytes(*content: Any) -> bytes:
    """Empty bytes, as Python 3 writes them with protocol 2."""
    if content:
        raise FileFormatError("it builds bytes from something else", "Write arrays and plain containers")
    return b""


def _ordered(items: Any = ()) -> dict[Any, Any]:
    """An OrderedDict; Python 2 writes its items as a list of pairs."""
    if not isinstance(items, (list, tuple)) or not all(
        isinstance(item, (list, tuple)) and len(item) == 2 for item in items
    ):
        raise FileFormatError("it builds an OrderedDict from something other than pairs", "Write a dict")
    return {_key(key): value for key, value in items}


def _key(key: Any) -> Any:
    """A key of a dictionary, if it is text or a number: hashing nested tuples of a small file can take 2^60 steps."""
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
ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    **{(module, "_reconstruct"): PickledArray for module in _NUMPY_MODULES},
    **{(module, "scalar"): _scalar for module in _NUMPY_MODULES},
    **{(module, "_frombuffer"): _from_buffer for module in _NUMPY_MODULES},
    ("numpy", "ndarray"): PickledArray,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encoded,
    ("__builtin__", "bytes"): _empty_bytes,
    ("builtins", "bytes"): _empty_bytes,
    ("collections", "OrderedDict"): _ordered,
    **{(f"detectron2.structures{end}", "BoxMode"): _box_mode for end in ("", ".boxes")},
}


_Python: Any = pickle._Unpickler


class _Unpickler(_Python):  # type: ignore[misc]
    """Python's own unpickler, because the compiled one allocates as many memo slots as the file claims."""

    dispatch: ClassVar[dict[int, Any]] = dict(_Python.dispatch)

    def load_build(self) -> None:
        """Sets the state of our own classes only, because it could overwrite anything in other objects."""
        state = self.stack.pop()
        if not isinstance(self.stack[-1], (PickledArray, _Dtype)):
            raise FileFormatError("it sets the state of an object", "Write arrays and plain containers")
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
        """Reads before allocating; Python's own method allocates what the file claims before it reads."""
        (length,) = struct.unpack("<Q", self.read(8))
        content = self.read(min(length, 1 << 40))
        if len(content) < length:
            raise FileFormatError("it is truncated", "Write the file again")
        self.append(content)

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise FileFormatError(
                f"it refers to {module}.{name}, which frcnn refuses to load",
                "Write only NumPy arrays, dicts, lists, numbers and strings",
            )
        return ALLOWED[module, name]

    def get_extension(self, code: int) -> None:
        raise FileFormatError(f"it refers to the registered extension {code}", "Write arrays and plain containers")

    def persistent_load(self, pid: Any) -> None:
        raise FileFormatError("it refers to objects outside of the file", "Write arrays and plain containers")
