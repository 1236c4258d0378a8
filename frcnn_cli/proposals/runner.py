"""Many images to proposals, on several processes.

Each worker decodes, proposes and answers over its own pipe, one image at a time; a second one waits in the pipe, so
that no worker waits for us while we write. An image that a source crashes on (even with the process), or takes too long
for, is known by name, and the others go on.
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
    refs: Sequence[ImageRef],
    source: ProposalSource,
    read: Read,
    limits: Limits = Limits(),
    workers: int = 0,
    timeout: float | None = None,
) -> Iterator[Outcome]:
    """Yields an `Outcome` for every image, in the order in which they are finished.

    Args:
        read: decodes a reference; with workers it must be importable by name, as the source must.
        workers: processes; 0 computes in this one, where a crash is a crash and nothing is ever too long.
        timeout: seconds that one image may take.

    Raises:
        SourceError: a worker cannot begin at all.
    """
    job = _Job(source, read, limits)
    workers = min(workers, len(refs))
    if workers < 1:
        yield from (job.do(ref) for ref in refs)
        return
    pool = _Pool(job, workers, timeout)
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


class _Worker:
    """A process, its pipe, and the images handed to it and not yet answered, the one in work first."""

    def __init__(self, job: _Job) -> None:
        context = get_context("spawn")  # fork would inherit locks held by OpenCV's and NumPy's threads
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, job), daemon=True)
        with _one_thread_each():
            self.process.start()
        theirs.close()
        self.ready = False  # it says so itself, once it has imported what it needs
        self.doing: deque[ImageRef] = deque()
        self.since = 0.0  # when the image in work was begun

    def hand(self, ref: ImageRef) -> None:
        if not self.doing:
            self.since = time.monotonic()
        self.doing.append(ref)
        with suppress(OSError):  # it died between two images: waiting for its answer tells
            self.connection.send(ref)

    def end(self) -> int | None:
        """Kills the process if it lives, and returns the exit code that it had of itself, if it had."""
        if self.connection.poll(0):  # it has shut its end of the pipe, so it is ending by itself
            self.process.join(timeout=1)
        code = self.process.exitcode
        self.process.kill()
        self.process.join()
        self.connection.close()
        return code


class _Pool:
    """Workers that are kept busy, and replaced when they die or hang."""

    DEPTH = 2  # images in a worker: one in work, one waiting

    def __init__(self, job: _Job, workers: int, timeout: float | None) -> None:
        self.job = job
        self.timeout = timeout
        self.workers = [_Worker(job) for _ in range(workers)]

    def run(self, refs: Sequence[ImageRef]) -> Iterator[Outcome]:
        todo = deque(refs)
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
        except (EOFError, OSError):  # the process died: the pipe is all that tells
            ref = worker.doing.popleft() if worker.doing else None
            began = worker.ready
            code = self._replace(worker, todo, revive=began)
            if ref is not None:
                yield Outcome(ref, error=_died(self.job.source.name, ref, code))
            elif not began:
                raise _cannot_begin(self.job.source.name, code) from None
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
        """Ends a worker, gives back what waited in it, and starts another if there is work; the exit code."""
        code = worker.end()
        todo.extendleft(reversed(worker.doing))
        self.workers.remove(worker)
        if revive and todo:
            self.workers.append(_Worker(self.job))
        return code

    def _is_late(self, worker: _Worker) -> bool:
        return self.timeout is not None and time.monotonic() - worker.since > self.timeout

    def _patience(self) -> float | None:
        """Seconds until the next image is late."""
        begun = [worker.since for worker in self.workers if worker.doing]
        if self.timeout is None or not begun:
            return None
        return max(0.0, min(begun) + self.timeout - time.monotonic()) + 0.001

    def stop(self) -> None:
        for worker in self.workers:
            worker.process.kill()
        for worker in self.workers:
            worker.end()


def _died(source: str, ref: ImageRef, exit_code: int | None) -> SourceError:
    return SourceError(
        f"source {source!r} ended its process on {ref.path} (exit code {exit_code})",
        "Report it to the source's author, or leave the image out",
    )


def _too_long(source: str, ref: ImageRef, timeout: float) -> SourceError:
    return SourceError(
        f"source {source!r} took longer than {timeout:g} s on {ref.path}",
        "Allow more with --timeout, or leave the image out",
    )


def _cannot_begin(source: str, exit_code: int | None) -> SourceError:
    return SourceError(
        f"a process for source {source!r} ended before its first image (exit code {exit_code})",
        "See the lines above; in a script, call propose_many under if __name__ == '__main__'",
    )


def _work(connection: Connection, job: _Job) -> None:
    """The life of a worker: image in, outcome out, until the pipe closes."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import cv2

    cv2.setNumThreads(1)
    # Imports and compiled kernels are no image's time. A fault shows again on the first image.
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
    """N workers use N cores: Numba and OpenMP, left to themselves, would start N threads in each. They read this when
    they are loaded, so it must be there before the process is."""
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
