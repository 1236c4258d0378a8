"""What happens when the process of a command starts and ends."""

from __future__ import annotations

import atexit
import gc
import os
import sys


def is_supported() -> bool:
    """Whether frcnn runs on this system. Windows has no such file locks and cannot rename open files."""
    return sys.platform != "win32"


def start_and_end_quickly() -> None:
    """Avoids work that a short-lived process does not need. Call it before NumPy is imported.

    - Imports create half a million objects that stay. Searching them for garbage again and again takes 0.3 s, and once
      more when the process ends, 0.1 to 0.2 s.
    - OpenBLAS, NumPy's library for matrix products, starts a thread per core when it is loaded, and each of them waits
      in a busy loop: 0.2 s of processor time on two cores. The networks multiply in torch, whose threads this does not
      affect. With one thread, NumPy's sums also have the same order on every machine. Set OPENBLAS_NUM_THREADS to use
      more.

    Our commands call it, the library does not, because it applies to the whole process.
    """
    gc.set_threshold(100_000)
    atexit.register(_freeze)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _freeze() -> None:
    """Excludes all objects from the last search for garbage; not if Triton is loaded, which would report leaks."""
    if "triton" not in sys.modules:
        gc.freeze()
