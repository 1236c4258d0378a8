"""Advisory locks that end with the process that holds them, however it ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from frcnn_cli.core.errors import FrcnnError, explain_os_error


def try_lock(descriptor: int) -> bool:
    """Locks an open file or folder; returns False if another process, or another opening of it, holds the lock.

    Raises:
        FrcnnError: the system has no such locks (Windows).
    """
    try:
        import fcntl
    except ImportError:
        raise FrcnnError("this system has no file locks", "Use Linux, macOS, or WSL on Windows") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def folder_lock(folder: Path) -> Iterator[bool]:
    """Holds the lock of a folder during the block; the value is whether it could be taken. Nothing is written into the
    folder. It is created if necessary, and removed again if nothing was put into it.

    Raises:
        FrcnnError: the folder cannot be created or opened.
    """
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise explain_os_error(error, folder) from None
    try:
        yield try_lock(descriptor)
    finally:
        os.close(descriptor)
        if is_new:
            with suppress(OSError):  # it is not empty
                folder.rmdir()
