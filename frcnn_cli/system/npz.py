"""Untrusted `.npz` files: arrays of numbers or text, never objects, and never more than the file holds."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.errors import FileFormatError, explain_os_error
from frcnn_cli.core.files import check_regular
from frcnn_cli.system.untrusted import max_unpacked_bytes

_MAX_HEADER = 1000  # bytes; Python's parser, which reads the header of an array, is slow on long ones


class NpzFile:
    """The arrays of a file by name; each is read when it is asked for.

    Raises:
        FileFormatError: not an .npz file, or one that claims to unpack to too much. FrcnnError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._archive = zipfile.ZipFile(check_regular(path, FileFormatError))
        except OSError as error:
            raise explain_os_error(error, path) from None
        except (ValueError, zipfile.BadZipFile) as error:
            raise FileFormatError(f"{path} is not an .npz file ({error})", "Write it with numpy.savez") from None
        self._members = {info.filename.removesuffix(".npy"): info for info in self._archive.infolist()}
        claimed = sum(info.file_size for info in self._members.values())
        if claimed > max_unpacked_bytes(path.stat().st_size):
            raise FileFormatError(f"{path} claims to unpack to {claimed:,} bytes", "Write the file again")

    @property
    def names(self) -> list[str]:
        return list(self._members)

    def read(self, name: str) -> NDArray[Any]:
        """One array. Raises FileFormatError if it is missing, damaged, or holds objects."""
        info = self._members.get(name)
        if info is None:
            raise FileFormatError(f"{self.path} has no array {name!r}", f"Its arrays are {', '.join(self.names[:10])}")
        try:
            with self._archive.open(info) as member:
                _check_header(member, info.file_size)
            with self._archive.open(info) as member:
                array: NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False, max_header_size=_MAX_HEADER)
        except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            reason = f"{info.filename} cannot be read ({error})"
            raise FileFormatError(f"{self.path}: {reason}", "Write numbers, not objects") from None
        return array

    def numbers(self, name: str, ndim: int) -> NDArray[Any]:
        """An array of finite numbers with `ndim` axes. Raises FileFormatError for another one."""
        array = self.read(name)
        if array.dtype.kind not in "iufb" or array.ndim != ndim:
            what = f"{name} is {array.dtype} {list(array.shape)}, not numbers with {ndim} axes"
            raise FileFormatError(f"{self.path}: {what}", "Write the file again")
        if array.dtype.kind == "f":
            with np.errstate(over="ignore"):
                array = array if array.dtype == np.float16 else array.astype(np.float32)
            if not np.isfinite(array).all():
                raise FileFormatError(f"{self.path}: {name} holds NaN, or numbers too large", "Write the file again")
        return array

    def close(self) -> None:
        self._archive.close()

    def __enter__(self) -> NpzFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_npy(path: Path) -> None:
    """Refuses a `.npy` whose header claims more than the file holds. Raises FileFormatError or FrcnnError."""
    try:
        with open(check_regular(path, FileFormatError), "rb") as file:
            _check_header(file, path.stat().st_size)
    except OSError as error:
        raise explain_os_error(error, path) from None
    except (ValueError, EOFError) as error:
        raise FileFormatError(f"{path} is not an array ({error})", "Write it with numpy.save") from None


def _check_header(member: Any, file_size: int) -> None:
    """Raises ValueError for an array whose header claims more than its file holds."""
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(member, max_header_size=_MAX_HEADER)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if int(np.prod(shape, dtype=object)) * dtype.itemsize > file_size:
        raise ValueError(f"it claims the shape {list(shape)}")
