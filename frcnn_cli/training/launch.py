"""`--devices N`: starts the processes that train together on this machine, and reports for them."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TypeVar

from frcnn_cli.core.errors import FrcnnError, FrcnnWarning
from frcnn_cli.core.progress import SILENT, Bar, Progress
from frcnn_cli.system.processes import without_main_module
from frcnn_cli.training.ranks import Ranks, joined

Result = TypeVar("Result")
Stopping = AbstractContextManager[Callable[[], bool]]  # entered when work can be stopped: its value states whether to
Work = Callable[[Ranks, Progress, Stopping], Result]


class RankEndedError(FrcnnError):
    """A process ended, and with it the training."""


_POLL = 0.1  # seconds between looks at the processes
_GRACE = 5.0  # seconds to end after SIGTERM


def run_ranks(count: int, work: Work[Result], stopping: Stopping, progress: Progress = SILENT) -> Result:
    """Runs `work` in `count` processes that are connected to each other, and returns the result of rank 0.

    Args:
        work: called with the ranks, where to report progress, and when to stop. It must be possible to pickle it.
        stopping: entered when rank 0 enters the one that it is given.
        progress: where the progress of rank 0 is shown.

    Raises:
        FrcnnError: of a rank, or because a rank has ended. The other ranks are then ended too.
    """
    from torch import multiprocessing

    processes: Any = multiprocessing
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)  # it reports what the error states
    context = processes.get_context("spawn")
    stop = context.Event()
    links = [context.Pipe(duplex=False) for _ in range(count)]
    with tempfile.TemporaryDirectory(prefix="frcnn-ranks-") as folder, ExitStack() as shown:
        rendezvous = (Path(folder) / "rendezvous").as_uri()
        with without_main_module():
            ranks = processes.start_processes(
                _rank,
                args=(count, rendezvous, work, [link[1] for link in links], stop),
                nprocs=count,
                join=False,
                start_method="spawn",
            )
        shown.callback(_end_all, ranks.processes)
        for _, sender in links:
            sender.close()
        reports = _Reports([receiver for receiver, _ in links], progress, stopping, shown)
        try:
            while not ranks.join(timeout=_POLL, grace_period=_GRACE):
                reports.show()
                if reports.should_stop():
                    stop.set()
        except (processes.ProcessExitedException, processes.ProcessRaisedException) as error:
            reports.show()
            raise reports.error or _explained(error, count) from error
        reports.show()
        if reports.error is not None:
            raise reports.error
        assert reports.result is not None
        result: Result = reports.result[0]
        return result


def _rank(
    rank: int, count: int, rendezvous: str, work: Work[Any], senders: list[Connection[Any, Any]], stop: Any
) -> None:
    """A process of its own. Ctrl-C is for the process that started it."""
    for name in ("SIGINT", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if os.uname().sysname == "Linux" else "lo0")
    parent, link = os.getppid(), senders[rank]
    if rank == 0:
        warnings.simplefilter("always", FrcnnWarning)
        warnings.showwarning = partial(_send_warning, link, warnings.showwarning)
    for other in senders:
        if other is not link:
            other.close()

    @contextmanager
    def stopping() -> Iterator[Callable[[], bool]]:
        if rank == 0:
            link.send(("stoppable",))
        yield should_stop

    def should_stop() -> bool:
        if os.getppid() != parent:
            os._exit(1)  # the process that started the training has ended
        return bool(stop.is_set())

    try:
        with joined(Ranks(rank, count, rank, count), rendezvous) as ranks:
            result = work(ranks, _Sent(link) if ranks.is_first else SILENT, stopping())
            if rank == 0:
                link.send(("result", result))
            sys.stdout.flush()
            sys.stderr.flush()
            # Everything is on disk. In 2 of about 70 runs, PyTorch aborted while it closed its connections.
            os._exit(0)
    except (FrcnnError, OSError, MemoryError) as error:
        link.send(("error", error))
        raise SystemExit(1) from None
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # of a GPU
            raise
        link.send(("error", MemoryError("the GPU is out of memory")))
        raise SystemExit(1) from None


def _send_warning(
    link: Connection[Any, Any], usual: Any, message: Warning | str, category: type[Warning], *where: Any
) -> None:
    """Warnings for users are shown as notes by the process that started this one; others as usual."""
    if issubclass(category, FrcnnWarning):
        link.send(("note", f"note: {message}"))
    else:
        usual(message, category, *where)


class _Sent(Progress):
    """Progress that another process shows."""

    def __init__(self, link: Connection[Any, Any]) -> None:
        self.link = link

    @contextmanager
    def task(self, title: str, total: int, unit: str = "images", done: int = 0) -> Iterator[Bar]:
        self.link.send(("begin", title, total, unit, done))
        try:
            yield _SentBar(self.link)
        finally:
            self.link.send(("end",))

    def note(self, text: str) -> None:
        self.link.send(("note", text))

    def warn(self, text: str) -> None:
        self.link.send(("warn", text))

    def failed(self, key: str, error: FrcnnError) -> None:
        self.link.send(("failed", key, error))


class _SentBar(Bar):
    def __init__(self, link: Connection[Any, Any]) -> None:
        self.link = link

    def advance(self, count: int = 1) -> None:
        self.link.send(("advance", count))

    def say(self, text: str) -> None:
        self.link.send(("say", text))


class _Reports:
    """What the ranks have sent: progress is shown, and the first error and the result are kept."""

    def __init__(
        self, links: list[Connection[Any, Any]], progress: Progress, stopping: Stopping, shown: ExitStack
    ) -> None:
        self.links, self.progress, self.stopping, self.shown = links, progress, stopping, shown
        self.should_stop: Callable[[], bool] = lambda: False
        self.tasks: list[tuple[ExitStack, Bar]] = []  # the innermost task is the last
        self.error: Exception | None = None
        self.result: tuple[Any] | None = None

    def show(self) -> None:
        """Takes in everything that has arrived."""
        while ready := wait(self.links, timeout=0):
            for link in ready:
                assert isinstance(link, Connection)
                try:
                    kind, *values = link.recv()
                except (EOFError, OSError):  # the rank has ended
                    self.links.remove(link)
                else:
                    getattr(self, f"_{kind}")(*values)

    def _stoppable(self) -> None:
        self.should_stop = self.shown.enter_context(self.stopping)

    def _begin(self, title: str, total: int, unit: str, done: int) -> None:
        own = self.shown.enter_context(ExitStack())
        self.tasks.append((own, own.enter_context(self.progress.task(title, total, unit, done))))

    def _end(self) -> None:
        self.tasks.pop()[0].close()

    def _advance(self, count: int) -> None:
        self.tasks[-1][1].advance(count)

    def _say(self, text: str) -> None:
        self.tasks[-1][1].say(text)

    def _note(self, text: str) -> None:
        self.progress.note(text)

    def _warn(self, text: str) -> None:
        self.progress.warn(text)

    def _failed(self, key: str, error: FrcnnError) -> None:
        self.progress.failed(key, error)

    def _error(self, error: Exception) -> None:
        self.error = self.error or error

    def _result(self, result: Any) -> None:
        self.result = (result,)


def _explained(error: Any, count: int) -> Exception:
    """The error for a rank that ended without one of its own."""
    who = f"rank {error.error_index} of {count} (process {error.error_pid})"
    if (name := getattr(error, "signal_name", None)) is not None:
        return RankEndedError(f"{who} was ended by {name}, and the others with it")
    if not hasattr(error, "exit_code"):  # an exception that is not ours, with its traceback
        failed = RuntimeError(f"{who}: {error.msg.strip().splitlines()[-1]}")
        failed.add_note(error.msg)
        return failed
    return RankEndedError(f"{who} has ended with exit code {error.exit_code}, and the others with it")


def _end_all(processes: list[Any]) -> None:
    for process in processes:
        if process.is_alive():
            process.terminate()
    for process in processes:
        process.join(_GRACE)
        if process.is_alive():
            process.kill()
