"""What a stage with a network computes in many images: here, or on the machines of a cluster."""

from __future__ import annotations

import os
import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray

from frcnn_cli.core.errors import FrcnnError
from frcnn_cli.core.image import Image, ImageRecord, ImageRef
from frcnn_cli.core.progress import Progress
from frcnn_cli.detector.detector import Detector
from frcnn_cli.store.writer import StageWriter
from frcnn_cli.system.background import BackgroundCalls
from frcnn_cli.system.cluster import Cluster, compute_images, for_driver

Columns = dict[str, NDArray[Any]]


class Computed(NamedTuple):
    """What was computed for one image: its record and the columns of a file, or the error. image: with its pixels, if
    it was computed in this process."""

    ref: ImageRef
    record: ImageRecord | None = None
    columns: Columns | None = None
    error: FrcnnError | None = None
    image: Image | None = None


@dataclass
class Work(ABC):
    """What is done with every image. It is sent to the tasks of a cluster, with its detector.

    busy: afterwards, the fraction of the time that the network computed.
    """

    detector: Detector
    busy: float = field(default=0.0, init=False)

    @abstractmethod
    def compute(self, refs: Sequence[ImageRef]) -> Iterator[Computed]:
        """Yields the outcome of each image, in order."""


def computed(work: Work, refs: Sequence[ImageRef], cluster: Cluster | None = None) -> Iterator[Computed]:
    """The outcome of each image, as it is finished.

    Raises:
        FrcnnError: the cluster cannot be used.
    """
    if cluster is None:
        yield from work.compute(refs)
        return
    packed = _packed(work, "cuda" if cluster.gpus else "cpu")
    yield from (Computed(*found) for found in compute_images(cluster, _compute, packed, refs))


def write_computed(
    outcomes: Iterator[Computed], out: StageWriter, title: str, total: int, finished: int, progress: Progress
) -> tuple[dict[str, FrcnnError], int]:
    """Writes what was computed as it comes; returns the errors by key, and the number of rows.

    Args:
        total: the images to compute. finished: those of an earlier run.
    """
    failed: dict[str, FrcnnError] = {}
    rows = 0
    if finished:
        progress.note(f"{finished} of {finished + total} images were finished by an earlier run")
    with BackgroundCalls() as background, progress.task(title, total) as bar:
        for done in outcomes:
            if done.error is not None:
                failed[done.ref.key] = done.error
                progress.failed(done.ref.key, done.error)
            elif done.record is not None and done.columns is not None:
                rows += len(done.columns[next(iter(out.format.ragged))])
                background(out.add, done.record, done.columns)
            bar.advance()
    return failed, rows


def _packed(work: Work, device: str) -> bytes:
    """The work for other processes, and the device of its network there; until then it is on the CPU."""
    home = work.detector.device
    work.detector.to("cpu")
    try:
        return pickle.dumps((work, device))
    finally:
        work.detector.to(home)


_works: dict[str, Any] = {}  # at most one, kept between the tasks of a Ray process


def unpacked(name: str, fetch: Callable[[], bytes]) -> Any:
    """In a task: the work that a driver sent, with its network on the CPU, or on the GPU that Ray gave to the task.

    Raises:
        FrcnnError: a GPU that PyTorch cannot use.
    """
    if name not in _works:
        _works.clear()
        work, device = pickle.loads(fetch())  # of the driver, which Ray trusts with any code
        if device == "cuda" and not torch.cuda.is_available():
            raise FrcnnError(f"PyTorch finds no GPU on {os.uname().nodename}", "Leave --task-gpus out")
        work.detector.to(device)
        _works[name] = work
    return _works[name]


def _compute(name: str, fetch: Callable[[], bytes], chunk: Sequence[ImageRef]) -> list[tuple[Any, ...]]:
    """In a task: what was computed for each image of a chunk; pixels stay here."""
    outcomes = unpacked(name, fetch).compute(chunk)
    return [for_driver(done.ref, done.record, done.columns, done.error) for done in outcomes]
