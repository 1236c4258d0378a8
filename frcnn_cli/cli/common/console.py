"""What a user sees: progress and notes on stderr, results on stdout.

Bars are drawn on a terminal only; elsewhere stderr gets plain lines. Rich is imported when it is first needed, so that
`frcnn --help` is fast.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from frcnn_cli.core.errors import FrcnnError
from frcnn_cli.core.progress import Bar, Progress

_LISTED_FAILURES = 20


def printable(text: str) -> str:
    """Text in which control characters, which could change the terminal, are written as escapes such as \\x1b.

    Names of classes, files and images come from files of others. Everything that is displayed passes here.
    """
    return "".join(
        f"\\x{ord(c):02x}" if (ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 else c for c in text
    ).translate(_SURROGATES)


_SURROGATES = {code: f"\\u{code:04x}" for code in range(0xD800, 0xE000)}  # they cannot be encoded


class SomeFailed(FrcnnError):
    """Some images failed and were reported; the others are done. Ends the command with exit code 1, silently."""


class _PlainBar(Bar):
    """Without a terminal: one line every half minute, so that a log shows that the work continues."""

    EVERY = 30.0  # seconds

    def __init__(self, title: str, total: int, unit: str, quiet: bool, done: int) -> None:
        self.title, self.total, self.unit, self.quiet = title, total, unit, quiet
        self.done = self.done_before = done
        self.text = ""
        self.began = self.printed = time.monotonic()

    def advance(self, count: int = 1) -> None:
        self.done += count
        now = time.monotonic()
        if not self.quiet and now - self.printed >= self.EVERY:
            self.printed = now
            rate = (self.done - self.done_before) / (now - self.began)
            left = round((self.total - self.done) / rate)
            figures = f"{rate:.1f} {self.unit}/s  ETA {left // 60}:{left % 60:02d}  {self.text}".rstrip()
            click.echo(f"{self.title} {self.done}/{self.total}  {figures}", err=True)

    def say(self, text: str) -> None:
        self.text = text


class _RichBar(Bar):
    def __init__(self, progress: Any, task: Any) -> None:
        self.progress, self._task = progress, task

    def advance(self, count: int = 1) -> None:
        self.progress.advance(self._task, count)

    def say(self, text: str) -> None:
        self.progress.update(self._task, figures=text)


class Console(Progress):
    """Where a command prints; also the progress that it passes to functions of the library."""

    def __init__(self, quiet: bool = False, debug: bool = False) -> None:
        self.quiet, self.debug = quiet, debug
        self.failures: dict[str, FrcnnError] = {}

    # Results on stdout.

    def result(self, text: str) -> None:
        """Prints a result."""
        click.echo(printable(text))

    def json(self, value: Any) -> None:
        """Prints a result as one JSON value."""
        click.echo(json.dumps(value, indent=2, allow_nan=False))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "", left: int = 1) -> None:
        """Prints aligned columns; the first `left` are text, the others are numbers."""
        from rich import box
        from rich.console import Console as RichConsole
        from rich.measure import Measurement
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for i, column in enumerate(columns):
            table.add_column(Text(printable(column)), justify="left" if i < left else "right", no_wrap=True)
        for row in rows:
            table.add_row(*(Text(printable(str(cell)).replace("\n", " ")) for cell in row))
        if sys.stdout is None:  # closed
            return
        console = RichConsole(file=sys.stdout, highlight=False)
        if not sys.stdout.isatty():  # never truncate a table to the width of a pipe
            unbounded = console.options.update(max_width=100_000)
            console.width = max(1, Measurement.get(console, unbounded, table).maximum)
        if title:
            console.print(printable(title), markup=False, soft_wrap=True)
        console.print(table)

    # Notes and progress on stderr.

    def note(self, text: str) -> None:
        """Prints a line; not with -q."""
        if not self.quiet:
            click.echo(printable(text), err=True)

    def warn(self, text: str) -> None:
        """Prints a warning, even with -q."""
        click.echo(printable(f"warning: {text}"), err=True)

    @contextmanager
    def task(self, title: str, total: int, unit: str = "images", done: int = 0) -> Iterator[Bar]:
        """A bar with count, rate and remaining time."""
        title = printable(title)
        if self.quiet or sys.stderr is None or not sys.stderr.isatty():
            yield _PlainBar(title, total, unit, self.quiet, done)
            return
        with _rich_progress(title, total, unit) as progress:
            yield _RichBar(progress, progress.add_task(title, total=total, completed=done, figures=""))

    # Images that failed.

    def failed(self, key: str, error: FrcnnError) -> None:
        """Remembers the error of one image; `list_failures` prints it."""
        self.failures[key] = error

    def failures_as_json(self) -> list[dict[str, str]]:
        return [{"image": key, "error": str(error)} for key, error in sorted(self.failures.items())]

    def list_failures(self, total: int | None = None) -> None:
        """Prints one line per failed image, once."""
        if not self.failures:
            return
        of_all = f" of {total}" if total is not None else ""
        self.warn(f"{len(self.failures)}{of_all} images failed and were skipped:")
        for key in sorted(self.failures)[:_LISTED_FAILURES]:
            error = self.failures[key]
            self.warn(f"  {error}" if key in str(error) else f"  {key}: {error}")
            if self.debug:
                click.echo("".join(getattr(error, "__notes__", [])), err=True)
        if len(self.failures) > _LISTED_FAILURES:
            self.warn(f"  and {len(self.failures) - _LISTED_FAILURES} more (--json lists all)")

    def end(self, total: int | None = None) -> None:
        """Lists the failures, and ends the command with exit code 1 if there are any."""
        self.list_failures(total)
        if self.failures:
            raise SomeFailed("")


@contextmanager
def _rich_progress(title: str, total: int, unit: str) -> Iterator[Any]:
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn
    from rich.progress import Progress as RichProgress
    from rich.progress import TimeRemainingColumn as Remaining
    from rich.table import Column
    from rich.text import Text

    console = RichConsole(stderr=True)

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:.1f} {unit}/s" if speed else f"- {unit}/s")

    columns = (
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, min_width=len(title))),
        *([BarColumn(bar_width=20)] if console.width >= 120 else []),
        MofNCompleteColumn(table_column=Column(no_wrap=True, min_width=2 * len(str(total)) + 1)),
        Rate(table_column=Column(no_wrap=True, min_width=len(unit) + 6)),
        Remaining(table_column=Column(no_wrap=True, min_width=8)),
        # On a narrow terminal, this column is truncated.
        TextColumn(
            "{task.fields[figures]}", markup=False, table_column=Column(no_wrap=True, ratio=1, overflow="ellipsis")
        ),
    )
    with RichProgress(*columns, console=console, expand=True) as progress:
        yield progress


def json_number(value: float) -> float | None:
    """A number for JSON, which has no NaN."""
    return None if math.isnan(value) else value


def three_digits(value: float) -> str:
    """A number with three decimals; a dash for NaN."""
    return "-" if math.isnan(value) else f"{value:.3f}"
