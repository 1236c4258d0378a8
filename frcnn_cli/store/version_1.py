"""The child process that opens a file of version 1, and prints its attributes as JSON; see `system.child`."""

from __future__ import annotations

import json
from pathlib import Path

from frcnn_cli.core.errors import FileFormatError
from frcnn_cli.store.reader import StageFile
from frcnn_cli.system.child import answer


def describe(path: Path) -> bytes:
    """The attributes of a file that this process has opened completely.

    Raises:
        FileFormatError: the file cannot be opened, or it is of a later version, which has no such strings.
    """
    with StageFile(path, in_child=True) as file:
        if not file.format_version.startswith("1."):
            raise FileFormatError(f"{path} is damaged (variable-length string)", "Compute it again")
        return json.dumps(file.attributes).encode()


if __name__ == "__main__":
    answer(describe)
