"""Advisory locks that end with the process that holds them, however it ends."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from frcnn_cli.core.errors import FrcnnError, explain_os_error

LOCK_FILE = ".lock"


def try_lock(descriptor: int) -> bool:
    """Locks an open file; returns False if the lock is held through another descriptor, also of another process. On a
    file system without locks, everyone gets it.

    Raises:
        FrcnnError: the operating system has no such locks (Windows).
    """
    try:
        import fcntl
    except ImportError:
        raise FrcnnError("this system has no file locks", "Use Linux, macOS, or WSL on Windows") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise
    return True


@contextmanager
def folder_lock(folder: Path) -> Iterator[bool]:
    """Holds the lock of a folder during the block; the value is whether it could be taken. The folder is created if
    necessary, and removed again if nothing was put into it.

    The lock is that of a file in the folder, because NFS has none for folders. It is deleted at the end; if the process
    is killed, it stays, unlocked.

    Raises:
        FrcnnError: the folder cannot be created or written.
    """
    is_new = not folder.exists()
    path = folder / LOCK_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _locked(path)
    except OSError as error:
        raise explain_os_error(error, folder) from None
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            with suppress(OSError):
                path.unlink()
            os.close(descriptor)
        if is_new:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


def _locked(path: Path) -> int | None:
    """The file, opened and locked; None if another process holds the lock."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            free = try_lock(descriptor)
            with suppress(FileNotFoundError):
                if free and os.path.samestat(path.stat(), os.fstat(descriptor)):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if not free:
            return None  # otherwise its holder has just deleted the file
