"""Folders that are written whole or not at all."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from frcnn_cli.core.errors import explain_os_error
from frcnn_cli.system.locks import folder_lock

_PREFIX, _SUFFIX = ".frcnn-", ".tmp"
_NAME = re.compile(re.escape(_PREFIX) + r"[a-z0-9_]{8}" + re.escape(_SUFFIX))


def is_empty(path: Path) -> bool:
    """Whether a folder holds nothing, apart from temporary folders (`temporary_folder`) that a killed process left"
    " behind."""
    return all(_NAME.fullmatch(entry.name) for entry in path.iterdir())


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder whose content becomes that of `path` when the block ends; if the block fails, it is deleted.

    Raises:
        FrcnnError: the system refuses to write.
    """
    try:
        if path.exists():  # it may be a mount point, a link, or the current folder, so it stays
            with temporary_folder(path) as temporary:
                yield temporary
                for entry in sorted(temporary.iterdir()):
                    entry.replace(path / entry.name)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(path.parent) as temporary:
            made = temporary / "made"
            made.mkdir()
            yield made
            made.replace(path)
    except OSError as error:
        raise explain_os_error(error, path) from None


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A new folder in `parent` for the duration of the block. Those that killed processes left are deleted.

    Raises:
        OSError: the system refuses to write.
    """
    for other in parent.iterdir():
        if _NAME.fullmatch(other.name) and other.is_dir() and not other.is_symlink():
            with folder_lock(other) as abandoned:
                if abandoned:
                    shutil.rmtree(other, ignore_errors=True)
    made = Path(tempfile.mkdtemp(_SUFFIX, _PREFIX, parent))
    try:
        with folder_lock(made):
            inner = made / "content"
            inner.mkdir()
            yield inner
    finally:
        shutil.rmtree(made, ignore_errors=True)
