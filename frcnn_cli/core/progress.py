"""Progress of long work. Functions of the library report it; their callers decide how to show it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from frcnn_cli.core.errors import FrcnnError


class Bar:
    """The progress of one task. This base class ignores it."""

    def advance(self, count: int = 1) -> None:
        """Counts `count` more items as done."""

    def say(self, text: str) -> None:
        """Replaces the figures shown beside the bar."""


class Progress:
    """Where long functions report their progress. This base class ignores it; the command line draws bars."""

    @contextmanager
    def task(self, title: str, total: int, unit: str = "images", done: int = 0) -> Iterator[Bar]:
        """A bar for `total` items, for the duration of the block.

        Args:
            done: how many items an earlier run had finished; they count for the bar, and not for the rate.
        """
        yield Bar()

    def note(self, text: str) -> None:
        """Takes one line about the work, for example how much an earlier run had finished."""

    def warn(self, text: str) -> None:
        """Takes one line that must not be missed, for example that training has diverged."""

    def failed(self, key: str, error: FrcnnError) -> None:
        """Takes the error of one image; the work continues with the others."""


SILENT = Progress()
