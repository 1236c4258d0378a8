"""Kernels that release the global interpreter lock, on as many threads as PyTorch uses."""

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
    """Runs `work(start, stop)` for each pair of neighbouring bounds, each on its own thread."""
    parts = [(start, stop) for start, stop in pairwise(bounds) if start < stop]
    if len(parts) <= 1:
        for start, stop in parts:
            work(start, stop)
        return
    list(_executor().map(work, *zip(*parts, strict=True)))


def equal_parts(count: int, min_size: int) -> list[int]:
    """Bounds that divide 0 .. count into one part per thread, each of at least `min_size`."""
    parts = min(torch.get_num_threads(), max(1, count // min_size))
    return [count * i // parts for i in range(parts + 1)]


def equal_work(work: NDArray[np.int64]) -> list[int]:
    """Bounds that divide the rows 0 .. len(work) into one part per thread with about equal work."""
    parts = max(1, min(torch.get_num_threads(), len(work)))
    total = np.cumsum(work)
    inner = np.searchsorted(total, total[-1] * np.arange(1, parts) / parts) if len(work) else []
    return [0, *(int(row) for row in inner), len(work)]


@cache
def _executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="roi")


os.register_at_fork(after_in_child=_executor.cache_clear)  # a forked process has none of its parent's threads
