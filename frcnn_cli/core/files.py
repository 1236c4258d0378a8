"""Files: which paths may be read, and small files written atomically (the path holds the old file or a complete new
one, never a part)."""

from __future__ import annotations

import codecs
import hashlib
import io
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from frcnn_cli.core.errors import FrcnnError, explain_os_error

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def decode_text(content: bytes) -> str:
    """Text in UTF-8, or in UTF-16 if it begins with its byte order mark (as Excel's "Unicode text" does); the mark is
    removed.

    Raises:
        UnicodeDecodeError: neither.
    """
    for mark, encoding in _MARKS.items():
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding)
    return content.decode("utf-8")


def text_encoding(path: Path) -> str:
    """The encoding of a text file, for `open`: UTF-8, or UTF-16 if it begins with its byte order mark."""
    with open(path, "rb") as file:
        start = file.read(3)
    return "utf-16" if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def is_by_product(path: Path) -> bool:
    """Whether a file was left by a system or an archive: hidden, `._x.jpg` of macOS, or below `__MACOSX`."""
    return path.name.startswith(".") or "__MACOSX" in path.parts


def files_in(folder: Path, *endings: str) -> list[Path]:
    """The files directly in a folder, sorted, without by-products; an empty list if there is no such folder.

    Args:
        endings: only files with one of these endings, whatever their case; by default all.
    """
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if not endings or path.suffix.lower() in endings)
    return sorted(path for path in found if not is_by_product(path) and path.is_file())


def is_below(path: Path, folder: Path) -> bool:
    """Whether a path, which may come from an untrusted file, exists inside a folder."""
    try:
        return path.resolve().is_relative_to(folder.resolve()) and path.exists()
    except (OSError, ValueError, RuntimeError):  # too long, with a null byte, or a loop of links
        return False


def files_below(folder: Path, *endings: str) -> list[Path]:
    """Like `files_in`, with the files of all folders below; hidden folders and `__MACOSX` are skipped."""
    found = []
    for top, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__MACOSX"]
        paths = (Path(top, name) for name in names if not name.startswith("."))
        found += [path for path in paths if not endings or path.suffix.lower() in endings]
    return sorted(path for path in found if path.is_file())


def check_regular(path: Path, error_type: type[FrcnnError] = FrcnnError) -> Path:
    """Refuses devices, pipes and sockets, whose content may never come or never end; returns the path.

    Raises:
        FrcnnError (or `error_type`): the path exists, but is neither a file nor a folder.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # the code that opens it reports the error
        return path
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise error_type(f"{path} is a device or a pipe, not a file", "Write its content to a file, and name that")
    return path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`: what the block writes there takes the place of `path` when the block ends.

    Raises:
        FrcnnError: the system refuses to write. What `path` held is kept.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = new_temporary(path)
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        _set_permissions(temporary)  # safetensors creates files that only their owner can read
        temporary.replace(path)
    except BaseException as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise explain_os_error(error, path) from None
        raise


_TEMPORARY = ".frcnn-tmp"


def new_temporary(path: Path) -> Path:
    """A new, empty file beside `path`, with a name that no other file has."""
    descriptor, name = tempfile.mkstemp(_TEMPORARY, _prefix(path), path.parent)
    os.close(descriptor)
    _set_permissions(Path(name))
    return Path(name)


def _set_permissions(path: Path) -> None:
    """Gives a file the permissions that the umask gives to new files."""
    os.umask(mask := os.umask(0))
    path.chmod(0o666 & ~mask)


def _prefix(path: Path) -> str:
    """The beginning of the names of temporary files for `path`; a hash if the name is so long that they would be longer
    than the system allows."""
    long = len(path.name.encode(errors="surrogateescape")) > 200
    return f".{hashlib.blake2b(os.fsencode(path.name), digest_size=16).hexdigest() if long else path.name}."


def remove_temporaries(path: Path) -> None:
    """Deletes the files of `new_temporary` that killed processes left. Call it only while holding a lock for `path`."""
    pattern = re.compile(re.escape(_prefix(path)) + r"[a-z0-9_]{8}" + re.escape(_TEMPORARY))
    for other in path.parent.iterdir():
        if pattern.fullmatch(other.name) and other.is_file():
            other.unlink(missing_ok=True)


def open_own(path: Path) -> BinaryIO:
    """Opens, for reading and writing, a file that only frcnn writes; creates it if necessary, and follows no symbolic
    link.

    Raises:
        OSError: it is a link, or the system refuses.
    """
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+b")


def write_atomic(path: Path, content: bytes) -> None:
    """Writes a file atomically. Raises FrcnnError if the system refuses; what `path` held is kept."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def save_image(pixels: NDArray[np.uint8], path: Path) -> None:
    """Writes uint8 [H, W, 3] RGB pixels as an image file; the ending decides the format.

    Raises:
        FrcnnError: an unknown ending, or the system refuses to write.
    """
    from PIL import Image as Pillow

    kind = Pillow.registered_extensions().get(path.suffix.lower())
    if kind is None:
        raise FrcnnError(f"{path} does not end like an image file", "Use for example .jpg or .png")
    encoded = io.BytesIO()
    Pillow.fromarray(pixels).save(encoded, kind, quality=92)
    write_atomic(path, encoded.getvalue())
