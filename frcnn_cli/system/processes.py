"""Processes: how many cores they may use, which were started together, and how to start workers."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import ModuleType


def usable_cores() -> int:
    """The number of cores that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def allow_open_files(count: int) -> None:
    """Raises the limit of this process so that `count` more files can be open, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 256  # as many others
    if soft != resource.RLIM_INFINITY and soft < wanted:
        highest = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, highest), hard))


@dataclass(frozen=True)
class Started:
    """This process among `count` that torchrun or a cluster has started together, and among those on this machine."""

    rank: int
    count: int
    local_rank: int
    local_count: int


def started_together() -> Started | None:
    """Read from the environment variables of PyTorch; None for a process that was started alone."""
    names = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    if not all(name in os.environ for name in names):
        return None
    rank, count = os.environ["RANK"], os.environ["WORLD_SIZE"]
    numbers = rank, count, os.environ.get("LOCAL_RANK", rank), os.environ.get("LOCAL_WORLD_SIZE", count)
    if not all(number.isdigit() for number in numbers) or int(count) < 2:
        return None
    return Started(*map(int, numbers))


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
