"""Reading ahead: the next items are made on threads while the current one is being used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def prefetch(make: Callable[[T], R], items: Iterable[T], threads: int = 2, ahead: int = 4) -> Iterator[R]:
    """Yields `make(item)` in order, with up to `ahead` results made or in the making; errors rise where they belong."""
    remaining = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        queue: deque[Future[R]] = deque(pool.submit(make, item) for item in islice(remaining, ahead))
        try:
            while queue:
                future = queue.popleft()
                queue.extend(pool.submit(make, item) for item in islice(remaining, 1))
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
