"""How much memory the machine has, and how this process handles freed memory."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h of glibc


def system_memory() -> tuple[int, int] | None:
    """Available and total memory in bytes; None where the system does not report it (not Linux)."""
    try:
        lines = (line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        values = {name: int(value.split()[0]) * 1024 for name, value in lines}
        return values["MemAvailable"], values["MemTotal"]
    except (OSError, ValueError, KeyError, IndexError):
        return None


def keep_freed_memory() -> bool:
    """Makes the C library reuse freed memory; returns whether it can be configured so.

    glibc returns every block of more than 32 MB to the system as soon as it is freed, so the output of each conv layer
    comes from fresh pages that the system has to clear first. SqueezeNet's conv layers on 600 x 800 pixels take 176 ms
    that way and 47 ms this way (2 cores). Meant for processes that run networks on a CPU; our commands call it, the
    library does not, because it applies to the whole process.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))


def limit_kernel_cache(kernels: int = 16) -> None:
    """Limits how many compiled kernels oneDNN, which computes conv layers on a CPU, keeps. Call it before the first
    conv layer runs.

    oneDNN keeps a kernel with its scratch memory for every shape that it meets, up to 1,024 of them. In training
    SqueezeNet at short side 200 on images of 200 sizes, resident memory grew from 1.7 GB at iteration 50 to 3.2 GB at
    iteration 400; with 16 kernels from 1.5 to 1.6 GB, at the same speed (`benchmarks/memory_growth.py`).

    The environment variables ONEDNN_PRIMITIVE_CACHE_CAPACITY and LRU_CACHE_CAPACITY keep the value that they have. Our
    commands call this function, the library does not, because it applies to the whole process.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, str(kernels))
