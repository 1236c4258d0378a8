"""Small files: written whole or not at all, and how much a stranger's may unpack to."""

from __future__ import annotations

import os
from pathlib import Path

from frcnn_cli.errors import explain_os_error


def most_bytes(file_size: int) -> int:
    """What a stranger's file of this size may unpack to: 100 times its size, 64 MB at least, 2 GB at most.

    Boxes pack 20 to 1 at best; deflate could be made to unpack 1032 to 1.
    """
    return min(2 << 30, max(64 << 20, 100 * file_size))


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
