"""Many images through the conv layers: decoded and resized ahead on threads, stacked where their shapes are equal,
brought back from a GPU while it is at the next, so that the network waits for nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from frcnn_cli.data.prefetch import prefetch
from frcnn_cli.errors import FrcnnError
from frcnn_cli.image import Image, ImageRef
from frcnn_cli.model import Detector
from frcnn_cli.roi.levels import Maps, Scales

BATCH_ON_GPU = 8  # images; on a CPU one at a time is as fast, and takes less memory
_PIXELS = 600 * 1000  # of an image; of larger ones fewer go together, since a batch is to fit the GPU


@dataclass(frozen=True)
class Mapped:
    """One image and its conv map: float [1, C, h, w] in the CPU's memory where `to_cpu`, and its scale; lists of
    several where the recipe looks in several sizes."""

    ref: ImageRef
    image: Image
    features: Maps
    scale: Scales


@dataclass(frozen=True)
class Failed:
    """An image that could not be read (`unread`) or has no map."""

    ref: ImageRef
    error: FrcnnError
    unread: bool = False


@dataclass(frozen=True)
class _Pass:
    """One image in one size, past the conv layers."""

    ref: ImageRef
    image: Image
    features: Tensor
    scale: float


@dataclass
class _Ready:
    ref: ImageRef
    image: Image
    pixels: Tensor
    scale: float


class FeaturePipeline:
    """Yields the maps of images in order; afterwards `busy` tells the share of the time that the network computed."""

    def __init__(self, detector: Detector, dtype: str = "float16", batch: int | None = None, to_cpu: bool = True):
        """
        Args:
            dtype: what maps are rounded to. batch: images of one shape that go through together.
            to_cpu: bring maps to the CPU's memory; otherwise they stay on the device.
        """
        self.detector = detector
        self.dtype = dtype
        self.on_gpu = detector.device.type == "cuda"
        self.batch = batch or (BATCH_ON_GPU if self.on_gpu else 1)
        self.to_cpu = to_cpu
        self.computing = 0.0  # seconds
        self.began: float | None = None
        self.ended: float | None = None
        self.copies: Any = torch.cuda.Stream(detector.device) if self.on_gpu else None  # type: ignore[no-untyped-call]

    @property
    def busy(self) -> float:
        """The share of the time so far that the network computed: conv layers, and what ran in `also_computing`."""
        if self.began is None:
            return 0.0
        return self.computing / max((self.ended or time.perf_counter()) - self.began, 1e-9)

    @contextmanager
    def also_computing(self) -> Iterator[None]:
        """Around what else of the network runs while images are asked for (the head)."""
        if self.on_gpu:
            with torch.cuda.device(self.detector.device):
                clock = _Clock()
                yield
                clock.stop()
            self.computing += clock.seconds()
        else:
            began = time.perf_counter()
            yield
            self.computing += time.perf_counter() - began

    def run(self, images: Iterable[tuple[ImageRef, Image | FrcnnError]]) -> Iterator[Mapped | Failed]:
        """
        Args:
            images: read, or what is wrong with them; this iterator is asked for the next ones ahead of time.
        """
        self.began = time.perf_counter()
        yield from _of_one_image(self._passes(images), len(self.detector.transforms))
        self.ended = time.perf_counter()

    def _passes(self, images: Iterable[tuple[ImageRef, Image | FrcnnError]]) -> Iterator[_Pass | Failed]:
        """Every image in every size, one pass each."""
        pending: _Batch | None = None
        ready = chain.from_iterable(prefetch(self._prepare, images, threads=1, ahead=2 * self.batch))
        for group in _of_one_shape(ready, self.batch):
            # A GPU begins with this one before the one before is waited for.
            started = None if isinstance(group, Failed) else _Batch(self, group)
            if pending is not None:
                yield from pending.results()
            if isinstance(group, Failed):
                yield group
            pending = started
        if pending is not None:
            yield from pending.results()

    def _prepare(self, item: tuple[ImageRef, Image | FrcnnError]) -> list[_Ready | Failed]:
        ref, image = item
        if isinstance(image, FrcnnError):
            return [Failed(ref, image, unread=True)]
        ready: list[_Ready | Failed] = []
        for transform in self.detector.transforms:
            pixels, scale = transform(image.pixels)
            ready.append(_Ready(ref, image, pixels.pin_memory() if self.on_gpu else pixels, scale))
        return ready


def _of_one_image(passes: Iterable[_Pass | Failed], sizes: int) -> Iterator[Mapped | Failed]:
    """The passes of each image together; one that has no map in one size has none."""
    found: list[_Pass | Failed] = []
    for one in passes:
        if isinstance(one, Failed) and one.unread:
            yield one
            continue
        found.append(one)
        if len(found) < sizes:
            continue
        failed = next((p for p in found if isinstance(p, Failed)), None)
        if failed is not None:
            yield failed
        else:
            good = [p for p in found if isinstance(p, _Pass)]
            maps, scales = [p.features for p in good], [p.scale for p in good]
            several = sizes > 1
            yield Mapped(one.ref, good[0].image, maps if several else maps[0], scales if several else scales[0])
        found = []


def _of_one_shape(items: Iterable[_Ready | Failed], most: int) -> Iterator[list[_Ready] | Failed]:
    """Neighbours whose pixels have the same shape, together."""

    def full(group: Sequence[_Ready]) -> bool:
        return len(group) == most or (len(group) + 1) * group[0].pixels[0].numel() > most * _PIXELS

    group: list[_Ready] = []
    for item in items:
        if group and (isinstance(item, Failed) or item.pixels.shape != group[0].pixels.shape or full(group)):
            yield group
            group = []
        if isinstance(item, Failed):
            yield item
        else:
            group.append(item)
    if group:
        yield group


class _Batch:
    """Images of one shape on their way: started at once, waited for in `results`."""

    @torch.inference_mode()
    def __init__(self, pipeline: FeaturePipeline, group: Sequence[_Ready]) -> None:
        self.pipeline = pipeline
        self.group = group
        if pipeline.on_gpu:
            with torch.cuda.device(pipeline.detector.device):
                self._start_on_gpu()
        else:
            began = time.perf_counter()
            pixels = torch.cat([one.pixels[None] for one in group])
            self.maps, self.fine = pipeline.detector.conv_maps(pixels, pipeline.dtype)
            pipeline.computing += time.perf_counter() - began

    def _start_on_gpu(self) -> None:
        device, copies = self.pipeline.detector.device, self.pipeline.copies
        pixels = torch.cat([one.pixels[None].to(device, non_blocking=True) for one in self.group])
        self.clock = _Clock()
        maps, fine = self.pipeline.detector.conv_maps(pixels, self.pipeline.dtype)
        self.clock.stop()
        # Copies back go on a stream of their own, beside the next batch's conv layers.
        copies.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(copies):
            self.fine = _to_pinned(fine)
            self.maps = _to_pinned(maps) if self.pipeline.to_cpu else maps
        for tensor in (fine, maps):
            tensor.record_stream(copies)
        self.done = copies.record_event()

    def results(self) -> Iterator[_Pass | Failed]:
        if self.pipeline.on_gpu:
            self.done.synchronize()
            self.pipeline.computing += self.clock.seconds()
        for i, (one, fine) in enumerate(zip(self.group, self.fine.tolist(), strict=True)):
            if fine:
                yield _Pass(one.ref, one.image, self.maps[i : i + 1], one.scale)
            else:
                yield Failed(one.ref, self.pipeline.detector.overflow(one.ref.key, self.pipeline.dtype))


class _Clock:
    """Times what is queued on the GPU between its making and `stop`."""

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
