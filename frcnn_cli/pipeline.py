"""Many images through the conv layers: decoded and resized ahead on threads, stacked where their shapes are equal,
copied to and from a GPU while it computes, so that the network waits for nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from frcnn_cli.data.prefetch import prefetch
from frcnn_cli.errors import FrcnnError
from frcnn_cli.image import Image, ImageRef
from frcnn_cli.model import Detector

BATCH_ON_GPU = 8  # images; on a CPU one at a time is as fast, and takes less memory


@dataclass(frozen=True)
class Mapped:
    """One image and its conv map: float [1, C, h, w] in the CPU's memory where `to_cpu`, and its scale."""

    ref: ImageRef
    image: Image
    features: Tensor
    scale: float


@dataclass(frozen=True)
class Failed:
    """An image that could not be read or has no map."""

    ref: ImageRef
    error: FrcnnError


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
        self.elapsed = 0.0

    @property
    def busy(self) -> float:
        """The share of the time so far that the network computed, conv layers and what `also_computed` told of."""
        return self.computing / self.elapsed if self.elapsed else 0.0

    def also_computed(self, seconds: float) -> None:
        """Counts what else of the network ran while images were asked for (the head)."""
        self.computing += seconds

    def run(self, images: Iterable[tuple[ImageRef, Image | FrcnnError]]) -> Iterator[Mapped | Failed]:
        """
        Args:
            images: read, or what is wrong with them; this iterator is asked for the next ones ahead of time.
        """
        began = time.perf_counter()
        pending: _Batch | None = None
        for group in _of_one_shape(prefetch(self._prepare, images, threads=1, ahead=2 * self.batch), self.batch):
            # A GPU begins with this one before the one before is waited for.
            started = None if isinstance(group, Failed) else _Batch(self, group)
            if pending is not None:
                yield from pending.results()
            if isinstance(group, Failed):
                yield group
            pending = started
            self.elapsed = time.perf_counter() - began
        if pending is not None:
            yield from pending.results()
        self.elapsed = time.perf_counter() - began

    def _prepare(self, item: tuple[ImageRef, Image | FrcnnError]) -> _Ready | Failed:
        ref, image = item
        if isinstance(image, FrcnnError):
            return Failed(ref, image)
        pixels, scale = self.detector.config.transform(image.pixels)
        return _Ready(ref, image, pixels.pin_memory() if self.on_gpu else pixels, scale)


def _of_one_shape(items: Iterable[_Ready | Failed], most: int) -> Iterator[list[_Ready] | Failed]:
    """Neighbours whose pixels have the same shape, together."""
    group: list[_Ready] = []
    for item in items:
        if group and (isinstance(item, Failed) or len(group) == most or item.pixels.shape != group[0].pixels.shape):
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
        detector = pipeline.detector
        if pipeline.on_gpu:
            self.events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]  # type: ignore[no-untyped-call]
            pixels = torch.cat([one.pixels[None].to(detector.device, non_blocking=True) for one in group])
            self.events[0].record()
            maps, self.fine = detector.conv_maps(pixels, pipeline.dtype)
            self.events[1].record()
            if pipeline.to_cpu:
                there = torch.empty_like(maps, device="cpu", pin_memory=True)
                maps = there.copy_(maps, non_blocking=True)
            self.done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self.done.record()
        else:
            began = time.perf_counter()
            maps, self.fine = detector.conv_maps(torch.stack([one.pixels for one in group]), pipeline.dtype)
            pipeline.computing += time.perf_counter() - began
        self.maps = maps

    def results(self) -> Iterator[Mapped | Failed]:
        if self.pipeline.on_gpu:
            self.done.synchronize()
            self.pipeline.computing += self.events[0].elapsed_time(self.events[1]) / 1000
        for i, (one, fine) in enumerate(zip(self.group, self.fine.tolist(), strict=True)):
            if fine:
                yield Mapped(one.ref, one.image, self.maps[i : i + 1], one.scale)
            else:
                yield Failed(one.ref, self.pipeline.detector.overflow(one.ref.key, self.pipeline.dtype))
