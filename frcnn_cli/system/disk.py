"""Disk space that is taken before it is written."""

from __future__ import annotations

import os


def allocate(descriptor: int, offset: int, size: int) -> None:
    """Makes sure that a part of an open file has space on the disk, so that writing it cannot fail half-way. Quotas and
    limits count, too.

    Raises:
        OSError: there is no space.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, offset, size)
        return
    # macOS has no such call: write zeros where the file has no content yet.
    begin = max(offset, os.fstat(descriptor).st_size)
    while begin < offset + size:
        begin += os.pwrite(descriptor, bytes(min(1 << 20, offset + size - begin)), begin)
