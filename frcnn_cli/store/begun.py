"""How the earlier run of a stage was made, which the same command continues."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from frcnn_cli.core.errors import FrcnnError
from frcnn_cli.store.journal import journal_of, scan
from frcnn_cli.store.reader import StageFile
from frcnn_cli.store.schema import Format


def earlier_provenance(path: Path, fmt: Format) -> dict[str, Any] | None:
    """The provenance of the unfinished work on an output file, or of the file itself; None if there is neither."""
    try:
        identity = _identity(journal_of(path))
        if identity.get("format") == fmt.name:
            return dict(identity["provenance"])
    except (OSError, ValueError, TypeError, KeyError):  # the writer reports whatever else is there
        pass
    try:
        with StageFile(path, fmt) as file:
            return file.provenance
    except FrcnnError:
        return None


def _identity(journal: Path) -> dict[str, Any]:
    """The description of the work that a journal holds; empty if it holds none."""
    with open(journal, "rb") as file:
        for offset, _ in scan(file):
            file.seek(offset)
            return dict(json.loads(file.readline()))
    return {}
