"""Many images to proposals, on several processes.

Each worker takes one image at a time over its own pipe, so an image that a source crashes on (even with the process)
is known by name, and the others go on.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from frcnn_cli.errors import FrcnnError, SourceError
from frcnn_cli.image import Image, ImageRecord, ImageRef
from frcnn_cli.proposals.propose import Limits, propose
from frcnn_cli.proposals.source import Proposals, ProposalSource

Read = Callable[[ImageRef], Image]


class Outcome(NamedTuple):
    """What became of one image: its record and proposals, or the error."""

    ref: ImageRef
    record: ImageRecord | None = None
    proposals: Proposals | None = None
    error: FrcnnError | None = None


def propose_many(
    refs: Sequence[ImageRef], source: ProposalSource, read: Read, limits: Limits = Limits(), workers: int = 1
) -> Iterator[Outcome]:
    """Yields an `Outcome` for every image, in the order in which they are finished.

    Args:
        read: decodes a reference; with several workers it must be importable by name, as the source must.
        workers: processes; 1 computes in this process.
    """
    job = _Job(source, read, limits)
    workers = min(workers, len(refs))
    if workers <= 1:
        yield from (job.do(ref) for ref in refs)
        return
    pool = _Pool(job, workers)
    try:
        yield from pool.run(refs)
    finally:
        pool.stop()


@dataclass(frozen=True)
class _Job:
    source: ProposalSource
    read: Read
    limits: Limits

    def do(self, ref: ImageRef) -> Outcome:
        try:
            image = self.read(ref)
            return Outcome(ref, image.record, propose(image, self.source, self.limits))
        except FrcnnError as error:
            return Outcome(ref, error=FrcnnError(error.what, error.fix))  # plain, so that any process can unpickle it
        except Exception as error:
            return Outcome(ref, error=FrcnnError(f"{ref.path} cannot be done ({type(error).__name__}: {error})"))


class _Pool:
    """Workers, each with a pipe; never more than one image in a worker."""

    def __init__(self, job: _Job, workers: int) -> None:
        self.job = job
        self.context = get_context("spawn")  # fork would inherit locks held by OpenCV's and NumPy's threads
        self.workers: dict[Connection, Any] = {}
        for _ in range(workers):
            self._start()

    def _start(self) -> Connection:
        ours, theirs = self.context.Pipe()
        process = self.context.Process(target=_work, args=(theirs, self.job), daemon=True)
        process.start()
        theirs.close()
        self.workers[ours] = process
        return ours

    def run(self, refs: Sequence[ImageRef]) -> Iterator[Outcome]:
        todo = deque(refs)
        doing: dict[Connection, ImageRef] = {}
        for connection in list(self.workers):
            self._hand_out(connection, todo, doing)
        while doing:
            for ready in wait(list(doing)):
                assert isinstance(ready, Connection)
                ref = doing.pop(ready)
                try:
                    yield Outcome(ref, *ready.recv())
                except (EOFError, OSError):  # the process died: the pipe is all that tells
                    process = self.workers.pop(ready)
                    process.join()
                    yield Outcome(ref, error=_died(self.job.source.name, ref, process.exitcode))
                    ready = self._start() if todo else ready
                self._hand_out(ready, todo, doing)

    def _hand_out(self, connection: Connection, todo: deque[ImageRef], doing: dict[Connection, ImageRef]) -> None:
        if todo:
            ref = todo.popleft()
            doing[connection] = ref
            with suppress(OSError):  # it died between two images: `wait` reports it at once
                connection.send(ref)

    def stop(self) -> None:
        for connection, process in self.workers.items():
            connection.close()
            process.terminate()
        for process in self.workers.values():
            process.join()


def _died(source: str, ref: ImageRef, exit_code: int | None) -> SourceError:
    return SourceError(
        f"source {source!r} ended its process on {ref.path} (exit code {exit_code})",
        "Report it to the source's author, or leave the image out",
    )


def _work(connection: Connection, job: _Job) -> None:
    """The life of a worker: image in, outcome out, until the pipe closes."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _use_one_thread()
    while True:
        try:
            ref = connection.recv()
        except (EOFError, OSError):
            return
        outcome = job.do(ref)
        connection.send((outcome.record, outcome.proposals, outcome.error))


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _use_one_thread() -> None:
    """N workers use N cores: OpenCV, left to itself, would start N threads in each."""
    import cv2

    cv2.setNumThreads(1)
