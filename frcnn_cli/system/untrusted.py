"""Text and JSON from untrusted files, with limits on the memory that they may take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from frcnn_cli.core.errors import FileFormatError, FrcnnError, explain_os_error
from frcnn_cli.core.files import check_regular, decode_text
from frcnn_cli.system.memory import system_memory


def max_unpacked_bytes(file_size: int) -> int:
    """How much an untrusted compressed file of this size may unpack to: 100 times its size, between 64 MB and 2 GB.

    Boxes compress 20 to 1 at best; a deflate bomb reaches 1032 to 1.
    """
    return min(2 << 30, max(64 << 20, 100 * file_size))


def read_text(path: Path, max_bytes: int, error_type: type[FrcnnError] = FileFormatError) -> str:
    """The text of an untrusted file: UTF-8, or UTF-16 with its byte order mark.

    Args:
        max_bytes: maximum size of the file.
        error_type: the error raised if the file is larger or is not text.
    """
    try:
        check_regular(path, error_type)
        if path.stat().st_size > max_bytes:
            raise error_type(f"{path} is larger than {max_bytes >> 20} MB", "Check the file")
        return decode_text(path.read_bytes())
    except OSError as error:
        raise explain_os_error(error, path) from None
    except UnicodeDecodeError:
        raise error_type(f"{path} is not UTF-8 text", "Save it as UTF-8") from None


def read_json(
    path: Path, max_bytes: int, error_type: type[FrcnnError] = FileFormatError, fix: str = "Check the file"
) -> Any:
    """The content of an untrusted JSON file.

    A list of `{}` takes 26 times the size of its text as Python objects, so the memory is estimated before anything is
    parsed: 64 bytes per object or list, 48 per value (about 1.5 times what COCO's instances take).

    Args:
        max_bytes, error_type: as in `read_text`.
        fix: the advice if it is not JSON or would not fit into the free memory.
    """
    text = read_text(path, max_bytes, error_type)
    memory = system_memory()
    needed = 64 * (text.count("{") + text.count("[")) + 48 * (text.count(",") + text.count(":"))
    if memory is not None and needed > memory[0]:
        free = f"{needed / 1e9:.1f} GB of memory, and {memory[0] / 1e9:.1f} GB are free"
        raise error_type(f"{path} would take about {free}", fix)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise error_type(f"{path} is not JSON", fix) from None
