"""Small files: written whole or not at all, text of strangers, and how much a stranger's may unpack to."""

from __future__ import annotations

import os
from pathlib import Path

from frcnn_cli.errors import FileFormatError, FrcnnError, explain_os_error


def most_bytes(file_size: int) -> int:
    """What a stranger's file of this size may unpack to: 100 times its size, 64 MB at least, 2 GB at most.

    Boxes pack 20 to 1 at best; deflate could be made to unpack 1032 to 1.
    """
    return min(2 << 30, max(64 << 20, 100 * file_size))


def read_text(path: Path, most: int, wrong: type[FrcnnError] = FileFormatError) -> str:
    """A stranger's text, in UTF-8 (with or without a mark).

    Args:
        most: bytes that it may have. wrong: the error of a file that has more, or is no text.
    """
    try:
        if path.stat().st_size > most:
            raise wrong(f"{path} is larger than {most / 1e9:.1f} GB", "Check the file")
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise explain_os_error(error, path) from None
    except UnicodeDecodeError:
        raise wrong(f"{path} is not UTF-8 text", "Save it as UTF-8") from None


def write_whole(path: Path, content: bytes) -> None:
    """Writes under another name and renames into place. Raises FrcnnError; what the path held stays then."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise explain_os_error(error, path) from None
