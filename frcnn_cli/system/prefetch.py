"""Reading ahead: the next items are computed on threads while the current one is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def prefetch(function: Callable[[T], R], items: Iterable[T], threads: int = 2, ahead: int = 4) -> Iterator[R]:
    """Yields `function(item)` in order, with up to `ahead` results finished or in progress.

    An exception is raised when its item would have been yielded.
    """
    remaining = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        queue: deque[Future[R]] = deque(pool.submit(function, item) for item in islice(remaining, ahead))
        try:
            while queue:
                future = queue.popleft()
                queue.extend(pool.submit(function, item) for item in islice(remaining, 1))
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
