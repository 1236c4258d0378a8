"""A run's log: JSON, a line for every ten iterations and for every validation. Read without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from frcnn_cli.errors import FileFormatError

LOG_FILE = "log.jsonl"
MAX_BYTES = 1 << 30


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a run's log; the last one may be torn off.

    Raises:
        FileFormatError: not a log of ours.
    """
    if not path.is_file():
        return []
    if path.stat().st_size > MAX_BYTES:
        raise FileFormatError(f"{path} is larger than 1 GB", "Name a run's folder")
    whole = [line for line in path.read_text("utf-8", "replace").splitlines(keepends=True) if line.endswith("}\n")]
    try:
        lines = [json.loads(line) for line in whole]
        if not all(isinstance(line["iteration"], int) for line in lines):
            raise ValueError("no iteration")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FileFormatError(f"{path} is not a log of frcnn train ({error})", "Name a run's folder") from None
    return lines
