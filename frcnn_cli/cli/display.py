"""What a user sees: progress and notes on stderr, results on stdout.

Bars are drawn on a terminal only; elsewhere stderr gets notes and warnings as plain lines. Rich is imported when it is
first needed, so that `frcnn --help` is quick.
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


class Bar:
    """One job's progress. `advance` counts; `say` shows figures beside the bar."""

    def advance(self, count: int = 1) -> None:
        """Counts items as done."""

    def say(self, text: str) -> None:
        """Shows `text` beside the bar from now on."""


class _PlainBar(Bar):
    """Off a terminal: a line every half minute, so that a log shows that the work goes on."""

    EVERY = 30.0  # seconds

    def __init__(self, title: str, total: int, unit: str, quiet: bool) -> None:
        self.title, self.total, self.unit, self.quiet = title, total, unit, quiet
        self.done = 0
        self.text = ""
        self.began = self.spoken = time.monotonic()

    def advance(self, count: int = 1) -> None:
        self.done += count
        now = time.monotonic()
        if not self.quiet and now - self.spoken >= self.EVERY:
            self.spoken = now
            rate = self.done / (now - self.began)
            left = round((self.total - self.done) / rate)
            figures = f"{rate:.1f} {self.unit}/s  ETA {left // 60}:{left % 60:02d}  {self.text}".rstrip()
            click.echo(f"{self.title} {self.done}/{self.total}  {figures}", err=True)

    def say(self, text: str) -> None:
        self.text = text


class _RichBar(Bar):
    def __init__(self, progress: Any, task: Any) -> None:
        self.progress, self.task = progress, task

    def advance(self, count: int = 1) -> None:
        self.progress.advance(self.task, count)

    def say(self, text: str) -> None:
        self.progress.update(self.task, figures=text)


class Display:
    """Where a command's words go."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet

    def note(self, text: str) -> None:
        """What is good to know; silent with -q."""
        if not self.quiet:
            click.echo(text, err=True)

    def warn(self, text: str) -> None:
        """What must be known; said even with -q."""
        click.echo(f"warning: {text}", err=True)

    def result(self, text: str) -> None:
        """What was asked for."""
        click.echo(text)

    def json(self, value: Any) -> None:
        """What was asked for, for a program: one JSON value."""
        click.echo(json.dumps(value, indent=2, allow_nan=False))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "", left: int = 1) -> None:
        """Aligned columns on stdout; the first `left` are text, the others are numbers."""
        from rich import box
        from rich.console import Console
        from rich.measure import Measurement
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for i, column in enumerate(columns):
            table.add_column(column, justify="left" if i < left else "right", no_wrap=True)
        for row in rows:
            table.add_row(*(str(cell).replace("[", r"\[") for cell in row))
        console = Console(file=sys.stdout, highlight=False)
        if not sys.stdout.isatty():  # never cut a table to the width of a pipe
            unbounded = console.options.update(max_width=100_000)
            console.width = max(1, Measurement.get(console, unbounded, table).maximum)
        if title:
            console.print(title, markup=False, soft_wrap=True)
        console.print(table)

    @contextmanager
    def progress(self, title: str, total: int, unit: str = "images") -> Iterator[Bar]:
        """A bar with count, rate and time left."""
        if self.quiet or not sys.stderr.isatty():
            yield _PlainBar(title, total, unit, self.quiet)
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
        from rich.progress import TimeRemainingColumn as Remaining
        from rich.table import Column
        from rich.text import Text

        console = Console(stderr=True)

        class Rate(ProgressColumn):
            def render(self, task: Task) -> Text:
                speed = task.finished_speed or task.speed
                return Text(f"{speed:.1f} {unit}/s" if speed else f"- {unit}/s")

        whole = Column(no_wrap=True, min_width=8)
        columns = (
            TextColumn("{task.description}", table_column=Column(no_wrap=True, min_width=len(title))),
            *([BarColumn(bar_width=20)] if console.width >= 120 else []),
            MofNCompleteColumn(table_column=Column(no_wrap=True, min_width=2 * len(str(total)) + 1)),
            Rate(table_column=Column(no_wrap=True, min_width=len(unit) + 6)),
            Remaining(table_column=whole),
            # What a narrow terminal has no room for is cut from here.
            TextColumn("{task.fields[figures]}", table_column=Column(no_wrap=True, ratio=1, overflow="ellipsis")),
        )
        with Progress(*columns, console=console, expand=True) as progress:
            yield _RichBar(progress, progress.add_task(title, total=total, figures=""))


def number(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return None if math.isnan(value) else value


def share(value: float) -> str:
    """Three digits; a dash for NaN."""
    return "-" if math.isnan(value) else f"{value:.3f}"
