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
        for line in lines:
            if not isinstance(line["iteration"], int):
                raise ValueError("no iteration")
            for name, value in line.items():
                if isinstance(value, bool) or not isinstance(value, (int, float)):
                    raise ValueError(f"{name} is not a number")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        fix = "Name a run's folder, or take the file out of it"
        raise FileFormatError(f"{path} is not a log of frcnn train ({error})", fix) from None
    return lines
