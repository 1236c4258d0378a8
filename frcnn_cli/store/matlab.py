"""Reading MATLAB files of version 7.3, which are HDF5, with the same distrust as our own files.

MATLAB writes HDF5 of a version without checksums, so a child process reads the file (see `system.child`). It answers
with a line of JSON that describes the values, and then the bytes of all arrays.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.errors import FileFormatError, explain_os_error
from frcnn_cli.system.child import answer, parse_in_child
from frcnn_cli.system.untrusted import max_unpacked_bytes


def read_v73(path: Path) -> dict[str, Any]:
    """The variables: numeric arrays as MATLAB shows them, cell arrays of arrays or text as lists, text as str.

    Raises:
        FileFormatError: not HDF5, damaged, with links out of the file, or with claims of more bytes than it has.
    """
    line, _, raw = parse_in_child("frcnn_cli.store.matlab", path).partition(b"\n")
    position = 0

    def value(described: Any) -> Any:
        nonlocal position
        if isinstance(described, str):
            return described
        if isinstance(described, list):
            return [value(item) for item in described]
        dtype, shape = np.dtype(described["dtype"]), described["shape"]
        count = int(np.prod(shape))
        array = np.frombuffer(raw, dtype, count, position).reshape(shape).copy()
        position += array.nbytes
        return array

    return {name: value(described) for name, described in json.loads(line).items()}


def _answer(path: Path) -> bytes:
    arrays: list[NDArray[Any]] = []

    def described(value: Any) -> Any:
        if isinstance(value, str):
            return value
        if isinstance(value, list):
            return [described(item) for item in value]
        arrays.append(value)
        return {"dtype": value.dtype.str, "shape": value.shape}

    line = json.dumps({name: described(value) for name, value in _variables(path).items()}).encode()
    return b"\n".join([line, b"".join(array.tobytes() for array in arrays)])


def _variables(path: Path) -> dict[str, Any]:
    try:
        with h5py.File(path, "r") as file:
            reader = _Reader(file, path)
            return {
                name: reader.value(file[name])
                for name in file
                if not name.startswith("#") and isinstance(file.get(name, getlink=True), h5py.HardLink)
                if isinstance(file[name], h5py.Dataset)
            }
    except FileFormatError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise explain_os_error(error, path) from None
        reason = " ".join(str(error).split())
        raise FileFormatError(
            f"{path} is not a complete .mat file of version 7.3 ({reason})", "Save it again"
        ) from None


_REFERENCE_BYTES = 4096  # the assumed cost of following one reference, however small its target
_MAX_TEXT = 4096


class _Reader:
    """Reads datasets of one file, at most `max_unpacked_bytes` in total."""

    def __init__(self, file: h5py.File, path: Path) -> None:
        self.file = file
        self.path = path
        self.left = max_unpacked_bytes(path.stat().st_size)

    def value(self, data: h5py.Dataset) -> Any:
        array = self._read(data)
        kind = data.attrs.get("MATLAB_class", b"")
        if data.attrs.get("MATLAB_empty", 0):
            return "" if kind == b"char" else np.zeros((0, 4))
        if kind == b"char":
            if array.size > _MAX_TEXT:
                raise FileFormatError(
                    f"{self.path} holds a string of {array.size:,} characters", "Save only boxes and names"
                )
            return array.T.astype("<u2").tobytes().decode("utf-16-le", "replace")
        if array.dtype == h5py.ref_dtype:
            return [self._inner(reference) for reference in array.T.ravel(order="F")]
        return array.T  # HDF5 stores rows first

    def _inner(self, reference: Any) -> Any:
        if not reference:
            return np.zeros((0, 4))
        self.left -= _REFERENCE_BYTES
        inner = self.file[reference]
        if not isinstance(inner, h5py.Dataset) or inner.dtype == h5py.ref_dtype:
            raise FileFormatError(f"{self.path} has cells in cells", "Save one cell per image, with an array in it")
        return self.value(inner)

    def _read(self, data: h5py.Dataset) -> NDArray[Any]:
        if data.external or data.is_virtual:
            raise FileFormatError(f"{self.path} points to other files", "Save it again in one file")
        if data.dtype.hasobject and data.dtype != h5py.ref_dtype:
            raise FileFormatError(f"{self.path} holds {data.dtype} instead of numbers", "Save numeric arrays")
        self.left -= data.nbytes
        if self.left < 0:
            raise FileFormatError(f"{self.path} claims {data.nbytes:,} bytes for {data.name}", "Save it again")
        return np.asarray(data[()])


if __name__ == "__main__":
    answer(_answer)
