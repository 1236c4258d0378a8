"""Ctrl-C during training: finish the iteration, save, stop."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import click

from frcnn_cli.core.errors import FrcnnError
from frcnn_cli.core.run_files import STATE_FILE


class StoppedAtOnce(FrcnnError):
    """Interrupted where nothing can be saved."""

    exit_code = 130


class StopOnSignal(AbstractContextManager["Callable[[], bool]"]):
    """What Ctrl-C does to a training run that is about to begin.

    Before the context is entered, it interrupts at once. In the context the first one is remembered, so that the
    iteration is finished and saved, and a second one stops at once. SIGTERM, and SIGHUP, which a closed terminal sends,
    are treated in the same way. The value of the context is a function that is true once one of them has been
    received, even if it was received before and a library ignored the interruption.
    """

    def __init__(self, folder: Path, silent: bool = False) -> None:
        self._folder, self._silent = folder, silent
        self._asked = self._iterating = False
        self._before = {signal.SIGINT: signal.signal(signal.SIGINT, self._receive)}

    def __enter__(self) -> Callable[[], bool]:
        self._iterating = True
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP
                self._before[number] = signal.signal(number, self._receive)
        return lambda: self._asked

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Restores what the signals did before."""
        while self._before:
            signal.signal(*self._before.popitem())

    def _receive(self, number: int, frame: Any) -> None:
        if not self._iterating:
            self._asked = True
            raise KeyboardInterrupt
        if not self._asked:
            self._asked = True
            if not self._silent:
                with suppress(OSError):  # a closed terminal
                    click.echo("stopping after this iteration, then saving; Ctrl-C again stops at once", err=True)
            return
        resume = f"Continue from the last checkpoint: {resume_command(self._folder)}"
        exists = (self._folder / STATE_FILE).exists()
        raise StoppedAtOnce("stopped at once", resume if exists else "Nothing was saved yet")


def resume_command(folder: Path) -> str:
    """The command that continues a run, to be pasted into a shell."""
    import shlex

    return shlex.join(["frcnn", "train", "--resume", "-o", str(folder)])
