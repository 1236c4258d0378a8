"""Where batches of images are computed: at once on a CPU, or queued on a GPU, which computes while the caller goes on.

The pipeline sees an `Engine` only, so that tests can put one in its place that computes as late as a GPU may.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch
from torch import Tensor

from frcnn_cli.roi.levels import Map, as_tuple, mapped

BATCH_ON_GPU = 8  # images; on a CPU one at a time is as fast and needs less memory

Compute = Callable[[Tensor], tuple[Map, Tensor]]  # pixels [B, 3, h, w] -> maps [B, C, h', w'], and bool [B]: finite


class Started(Protocol):
    """A batch that is being computed."""

    def results(self) -> tuple[Map, Tensor]:
        """Maps and whether they are finite, the latter in the CPU's memory; waits for them."""
        ...


class Engine(Protocol):
    """batch: how many images of equal shape are computed together. seconds: for how long it has computed."""

    batch: int
    seconds: float

    def staged(self, pixels: Tensor) -> Tensor:
        """The pixels of an image where `start` takes them from; called on the threads that read ahead."""
        ...

    def start(self, compute: Compute, pixels: Sequence[Tensor], to_cpu: bool) -> Started:
        """Begins to compute a batch.

        Args:
            pixels: staged, float32 [3, h, w] each.
            to_cpu: whether maps are copied to the CPU's memory; otherwise they stay on the device.
        """
        ...

    def timed(self) -> AbstractContextManager[None]:
        """Counts the time that the block computes."""
        ...


def engine_for(device: torch.device) -> Engine:
    return GpuEngine(device) if device.type == "cuda" else CpuEngine()


class CpuEngine:
    batch = 1

    def __init__(self) -> None:
        self.seconds = 0.0

    def staged(self, pixels: Tensor) -> Tensor:
        return pixels

    def start(self, compute: Compute, pixels: Sequence[Tensor], to_cpu: bool) -> Started:
        with self.timed():
            return _Done(*compute(torch.stack(list(pixels))))

    @contextmanager
    def timed(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - began


class _Done:
    def __init__(self, maps: Map, finite: Tensor) -> None:
        self._results = maps, finite

    def results(self) -> tuple[Map, Tensor]:
        return self._results


class GpuEngine:
    """Copies pixels from page-locked memory, and maps back to it on a stream of its own, at the same time as the next
    batch is computed."""

    batch = BATCH_ON_GPU

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = 0.0
        self.copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def staged(self, pixels: Tensor) -> Tensor:
        return pixels.pin_memory()

    def start(self, compute: Compute, pixels: Sequence[Tensor], to_cpu: bool) -> Started:
        with torch.cuda.device(self.device):
            there = torch.stack([one.to(self.device, non_blocking=True) for one in pixels])
            clock = _Clock()
            maps, finite = compute(there)
            clock.stop()
            self.copies.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.copies):
                kept = mapped(_to_pinned, maps) if to_cpu else maps
                kept_finite = _to_pinned(finite)
            for tensor in (finite, *as_tuple(maps)):
                tensor.record_stream(self.copies)
            return _Queued(self, clock, self.copies.record_event(), kept, kept_finite)

    @contextmanager
    def timed(self) -> Iterator[None]:
        with torch.cuda.device(self.device):
            clock = _Clock()
            yield
            clock.stop()
        self.seconds += clock.seconds()


class _Queued:
    def __init__(self, engine: GpuEngine, clock: _Clock, done: torch.cuda.Event, maps: Map, finite: Tensor) -> None:
        self._engine, self._clock, self._copied = engine, clock, done
        self._results = maps, finite

    def results(self) -> tuple[Map, Tensor]:
        self._copied.synchronize()
        self._engine.seconds += self._clock.seconds()
        return self._results


class _Clock:
    """Times the work that is queued on the GPU between its creation and `stop`."""

    def __init__(self) -> None:
        self.events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]  # type: ignore[no-untyped-call]
        self.events[0].record()

    def stop(self) -> None:
        self.events[1].record()

    def seconds(self) -> float:
        self.events[1].synchronize()
        return float(self.events[0].elapsed_time(self.events[1])) / 1000


def _to_pinned(tensor: Tensor) -> Tensor:
    there = torch.empty_like(tensor, device="cpu", pin_memory=True)
    return there.copy_(tensor, non_blocking=True)
