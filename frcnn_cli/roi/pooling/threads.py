"""Work of kernels that let go of the interpreter's lock, on as many threads as PyTorch uses."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray


def in_parts(work: Callable[[int, int], object], bounds: Sequence[int]) -> None:
    """Runs `work(start, stop)` between each two neighbouring bounds, each on a thread of its own."""
    parts = [(start, stop) for start, stop in pairwise(bounds) if start < stop]
    if len(parts) <= 1:
        for start, stop in parts:
            work(start, stop)
        return
    list(_executor().map(work, *zip(*parts, strict=True)))


def equal_parts(count: int, least: int) -> list[int]:
    """Bounds of as many parts of 0 .. count as there are threads, none smaller than `least`."""
    parts = min(torch.get_num_threads(), max(1, count // least))
    return [count * i // parts for i in range(parts + 1)]


def equal_work(work: NDArray[np.int64]) -> list[int]:
    """Bounds of as many parts of the rows 0 .. len(work) as there are threads, with about the same work in each."""
    parts = max(1, min(torch.get_num_threads(), len(work)))
    total = np.cumsum(work)
    inner = np.searchsorted(total, total[-1] * np.arange(1, parts) / parts) if len(work) else []
    return [0, *(int(row) for row in inner), len(work)]


@cache
def _executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="roi")


os.register_at_fork(after_in_child=_executor.cache_clear)  # a fork has none of its parent's threads
