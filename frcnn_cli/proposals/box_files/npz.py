"""`.npz`: one array [N, 4], or [N, 5] with scores, per image, under the name of the image."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.errors import FileFormatError, explain_os_error
from frcnn_cli.core.files import check_regular
from frcnn_cli.proposals.box_files.box_file import BoxFile, as_rows
from frcnn_cli.system.untrusted import max_unpacked_bytes

_MAX_HEADER = 1000  # bytes; Python's parser, which reads the header of an array, is slow on long ones


def read_npz(path: Path) -> BoxFile:
    """Named arrays. Raises FileFormatError; for an array, when it is read."""
    try:
        archive = zipfile.ZipFile(check_regular(path, FileFormatError))
    except OSError as error:
        raise explain_os_error(error, path) from None
    except (ValueError, zipfile.BadZipFile) as error:
        raise FileFormatError(f"{path} is not an .npz file ({error})", "Write it with numpy.savez") from None
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    infos = list(members.values())
    claimed = sum(info.file_size for info in infos)
    if claimed > max_unpacked_bytes(path.stat().st_size):
        raise FileFormatError(f"{path} claims to unpack to {claimed:,} bytes", "Write the file again")

    def read(i: int) -> NDArray[np.float64]:
        info = infos[i]
        try:
            with archive.open(info) as member:
                _check_header(member, info.file_size)
            with archive.open(info) as member:
                array = np.lib.format.read_array(member, allow_pickle=False, max_header_size=_MAX_HEADER)
        except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            reason = f"{info.filename} cannot be read ({error})"
            raise FileFormatError(f"{path}: {reason}", "Write numbers, not objects") from None
        return as_rows(array, f"{path}: {info.filename}")

    return BoxFile(path, ".npz by image", len(infos), read, list(members))


def _check_header(member: Any, file_size: int) -> None:
    """Raises ValueError for an array whose header claims more than its member of the archive holds."""
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(member, max_header_size=_MAX_HEADER)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if int(np.prod(shape, dtype=object)) * dtype.itemsize > file_size:
        raise ValueError(f"it claims the shape {list(shape)}")
