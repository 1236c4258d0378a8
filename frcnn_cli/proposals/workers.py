"""Many images to proposals, on several processes.

Each worker decodes images, proposes boxes and answers through its own pipe, one image at a time; a second image waits
in the pipe, so that no worker waits while the parent writes. If the source crashes on an image, even if its process
dies, or takes too long, the image is reported and the others continue.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from typing import NamedTuple

from frcnn_cli.core.errors import FrcnnError, SourceError
from frcnn_cli.core.image import Image, ImageRecord, ImageRef
from frcnn_cli.proposals.limits import Limits
from frcnn_cli.proposals.propose import propose
from frcnn_cli.proposals.source import Proposals, ProposalSource
from frcnn_cli.system.processes import without_main_module

Read = Callable[[ImageRef], Image]


class Outcome(NamedTuple):
    """The outcome of one image: its record and proposals, or the error."""

    ref: ImageRef
    record: ImageRecord | None = None
    proposals: Proposals | None = None
    error: FrcnnError | None = None


def propose_many(
    refs: Sequence[ImageRef],
    source: ProposalSource,
    read: Read,
    limits: Limits = Limits(),
    workers: int = 0,
    timeout: float | None = None,
) -> Iterator[Outcome]:
    """Yields an `Outcome` per image, in the order in which they are finished.

    Args:
        read: decodes a reference. With workers, it must be importable by name, like the source.
        workers: number of processes; 0 computes in this process, where a crash ends the process and `timeout` has no
            effect.
        timeout: maximum seconds per image.

    Raises:
        SourceError: a worker cannot start.
    """
    job = Job(source, read, limits)
    workers = min(workers, len(refs))
    if workers < 1:
        yield from (job.do(ref) for ref in refs)
        return
    pool = Pool(job, workers, timeout)
    try:
        yield from pool.run(refs)
    finally:
        pool.stop()


@dataclass(frozen=True)
class Job:
    """What is done with every image."""

    source: ProposalSource
    read: Read
    limits: Limits

    def do(self, ref: ImageRef) -> Outcome:
        try:
            image = self.read(ref)
            return Outcome(ref, image.record, propose(image, self.source, self.limits))
        except FrcnnError as error:
            plain = FrcnnError(error.what, error.fix)  # base class: any process can unpickle it
            for note in getattr(error, "__notes__", []):
                plain.add_note(note)
            return Outcome(ref, error=plain)
        except Exception as error:
            return Outcome(ref, error=FrcnnError(f"{ref.location} failed ({type(error).__name__}: {error})"))


class _Worker:
    """A process, its pipe, and the images that it has not answered yet, the one in progress first."""

    def __init__(self, job: Job) -> None:
        context = get_context("spawn")  # fork would inherit locks held by OpenCV's and NumPy's threads
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, job), daemon=True)
        with _one_thread_each(), without_main_module(needed=_is_of_script(job.source)):
            self.process.start()
        theirs.close()
        self.ready = False  # set when the worker reports that its imports are done
        self.doing: deque[ImageRef] = deque()
        self.since = 0.0  # start time of the image in progress

    def hand(self, ref: ImageRef) -> None:
        if not self.doing:
            self.since = time.monotonic()
        self.doing.append(ref)
        with suppress(OSError):  # the worker died between two images; waiting for its answer will show it
            self.connection.send(ref)

    def end(self) -> int | None:
        """Kills the process if it is alive; returns its own exit code if it ended before."""
        if self.connection.poll(0):  # the worker has closed its end of the pipe, so it is ending
            self.process.join(timeout=1)
        code = self.process.exitcode
        self.process.kill()
        self.process.join()
        self.connection.close()
        return code


class Pool:
    """Workers that are kept busy, and replaced if they die or hang."""

    DEPTH = 2  # images per worker: one in progress, one waiting

    def __init__(self, job: Job, workers: int, timeout: float | None) -> None:
        self.job = job
        self.timeout = timeout
        self.workers = [_Worker(job) for _ in range(workers)]

    def run(self, refs: Sequence[ImageRef]) -> Iterator[Outcome]:
        """The outcomes of images, as they are finished. The workers remain, for further calls, until `stop`."""
        todo = deque(refs)
        for worker in self.workers:
            while worker.ready and todo and len(worker.doing) < self.DEPTH:
                worker.hand(todo.popleft())
        if not self.workers and todo:  # the last one ended on the last image
            self.workers.append(_Worker(self.job))
        while todo or any(worker.doing for worker in self.workers):
            answered = wait([worker.connection for worker in self.workers], timeout=self._patience())
            for worker in list(self.workers):
                if worker.connection in answered:
                    yield from self._hear(worker, todo)
                elif worker.doing and self._is_late(worker) and not worker.connection.poll(0):
                    ref = worker.doing.popleft()
                    self._replace(worker, todo)
                    yield Outcome(ref, error=_too_long(self.job.source.name, ref, self.timeout or 0))

    def _hear(self, worker: _Worker, todo: deque[ImageRef]) -> Iterator[Outcome]:
        try:
            answer = worker.connection.recv()
        except (EOFError, OSError):  # the process died
            ref = worker.doing.popleft() if worker.doing else None
            began = worker.ready
            code = self._replace(worker, todo, revive=began)
            if ref is not None:
                yield Outcome(ref, error=_died(self.job.source.name, ref, code))
            elif not began:
                raise _cannot_start(self.job.source.name, code) from None
            return
        done = None
        if answer is None:
            worker.ready = True
        else:
            done = Outcome(worker.doing.popleft(), *answer)
            worker.since = time.monotonic()
        while todo and len(worker.doing) < self.DEPTH:
            worker.hand(todo.popleft())
        if done is not None:
            yield done

    def _replace(self, worker: _Worker, todo: deque[ImageRef], revive: bool = True) -> int | None:
        """Ends a worker, requeues its images, and starts another one if there is work; returns the exit code."""
        code = worker.end()
        todo.extendleft(reversed(worker.doing))
        self.workers.remove(worker)
        if revive and todo:
            self.workers.append(_Worker(self.job))
        return code

    def _is_late(self, worker: _Worker) -> bool:
        return self.timeout is not None and time.monotonic() - worker.since > self.timeout

    def _patience(self) -> float | None:
        """Seconds until the timeout of the next image."""
        begun = [worker.since for worker in self.workers if worker.doing]
        if self.timeout is None or not begun:
            return None
        return max(0.0, min(begun) + self.timeout - time.monotonic()) + 0.001

    def stop(self) -> None:
        for worker in self.workers:
            worker.process.kill()
        for worker in self.workers:
            worker.end()


def _is_of_script(source: ProposalSource) -> bool:
    """Whether the source, or one that it combines, is defined in the user's script."""
    parts = [value for value in vars(source).values() if isinstance(value, tuple)]
    inner = (part for values in parts for part in values if isinstance(part, ProposalSource))
    return type(source).__module__ == "__main__" or any(map(_is_of_script, inner))


def _died(source: str, ref: ImageRef, exit_code: int | None) -> SourceError:
    return SourceError(
        f"source {source!r} ended its process on {ref.location} (exit code {exit_code})",
        "Report it to the author of the source, or exclude the image",
    )


def _too_long(source: str, ref: ImageRef, timeout: float) -> SourceError:
    return SourceError(
        f"source {source!r} took longer than {timeout:g} s on {ref.location}",
        "Increase --timeout, or exclude the image",
    )


def _cannot_start(source: str, exit_code: int | None) -> SourceError:
    return SourceError(
        f"a process for source {source!r} ended before its first image (exit code {exit_code})",
        "See the errors above. A source that is defined in a script needs if __name__ == '__main__': in the script",
    )


def _work(connection: Connection, job: Job) -> None:
    """The main function of a worker: receives images and sends outcomes until the pipe closes."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import cv2

    cv2.setNumThreads(1)
    # Imports and compilation do not count as time of the first image. An error will occur again on that image.
    with suppress(Exception):
        job.source.prepare()
    connection.send(None)
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


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Limits each new process to one thread, so that N workers use N cores: Numba and OpenMP would start N threads in
    each. They read these variables when they are loaded, so the variables must be set before the process starts."""
    names = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
