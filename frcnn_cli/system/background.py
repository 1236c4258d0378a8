"""Background calls: made in order on another thread while the next item is computed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self


class BackgroundCalls:
    """A queue of at most `max_waiting` calls; an exception of one is raised by a later call, or at the end."""

    def __init__(self, max_waiting: int = 8) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._waiting: deque[Future[Any]] = deque()
        self._max_waiting = max_waiting

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Queues `function(*arguments)`; waits while the queue is full."""
        while len(self._waiting) >= self._max_waiting or (self._waiting and self._waiting[0].done()):
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(function, *arguments))

    def wait(self) -> None:
        """Returns when all calls are done."""
        while self._waiting:
            self._waiting.popleft().result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            self._pool.shutdown(cancel_futures=True)
