"""Ctrl-C during training: finish the iteration, save, stop."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from frcnn_cli.core.errors import FrcnnError
from frcnn_cli.core.run_files import STATE_FILE


class StoppedAtOnce(FrcnnError):
    """Interrupted where nothing can be saved."""

    exit_code = 130


@contextmanager
def stop_on_signal(folder: Path) -> Iterator[Callable[[], bool]]:
    """Yields a function that is true once Ctrl-C or SIGTERM has been received; a second one stops at once."""
    asked: list[int] = []

    def remember(number: int, frame: Any) -> None:
        if not asked:
            asked.append(number)
            click.echo("stopping after this iteration, then saving; Ctrl-C again stops at once", err=True)
            return
        resume = f"Continue from the last checkpoint: {resume_command(folder)}"
        raise StoppedAtOnce("stopped at once", resume if (folder / STATE_FILE).exists() else "Nothing was saved yet")

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def resume_command(folder: Path) -> str:
    """The command that continues a run, to be pasted into a shell."""
    import shlex

    return shlex.join(["frcnn", "train", "--resume", "-o", str(folder)])
