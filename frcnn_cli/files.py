"""Small files: written whole or not at all, text of strangers, and how much a stranger's may unpack to."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from frcnn_cli.errors import FileFormatError, FrcnnError, explain_os_error
from frcnn_cli.memory import system_memory


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
            raise wrong(f"{path} is larger than {most >> 20} MB", "Check the file")
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise explain_os_error(error, path) from None
    except UnicodeDecodeError:
        raise wrong(f"{path} is not UTF-8 text", "Save it as UTF-8") from None


def read_json(path: Path, most: int, wrong: type[FrcnnError] = FileFormatError, fix: str = "Check the file") -> Any:
    """A stranger's JSON.

    A list of `{}` takes 26 times its text as Python objects, so what those would take is estimated before any is made:
    64 bytes an object or list, 48 a value (of COCO's instances that is half as much again as they take).

    Args:
        most, wrong: as of `read_text`. fix: what to do where it is not JSON, or too much for the memory that is free.
    """
    text = read_text(path, most, wrong)
    memory = system_memory()
    needed = 64 * (text.count("{") + text.count("[")) + 48 * (text.count(",") + text.count(":"))
    if memory is not None and needed > memory[0]:
        free = f"{needed / 1e9:.1f} GB of memory, and {memory[0] / 1e9:.1f} GB are free"
        raise wrong(f"{path} would take about {free}", fix)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise wrong(f"{path} is not JSON", fix) from None


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
