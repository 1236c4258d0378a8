"""Starting worker processes without running the user's script in them again."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


def usable_cores() -> int:
    """The number of cores that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def without_main_module(needed: bool = False) -> Iterator[None]:
    """A context in which new processes do not import the `__main__` module of this one.

    Python's multiprocessing imports it in every process that it spawns. A script without `if __name__ == "__main__":`
    would then run again in each of them.

    Args:
        needed: whether the processes need the module, because something that they receive is defined in it.
    """
    main = sys.modules["__main__"]
    if not needed:
        sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
