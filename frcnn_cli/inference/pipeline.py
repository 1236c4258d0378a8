"""Many images through the conv layers, without the network waiting: images are decoded and resized ahead on threads,
those of equal shape are batched, and maps are copied back from a GPU while it computes the next ones.
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

from frcnn_cli.core.errors import FrcnnError
from frcnn_cli.core.image import Image, ImageRef
from frcnn_cli.detector.detector import Detector
from frcnn_cli.detector.maps import are_finite, overflow, round_maps
from frcnn_cli.roi.levels import Map, Maps, Scale, Scales, as_tuple, mapped
from frcnn_cli.system.prefetch import prefetch

BATCH_ON_GPU = 8  # images; on a CPU one at a time is as fast and needs less memory
_PIXELS = 600 * 1000  # per image; batches of larger images have fewer, so that they fit the GPU


@dataclass(frozen=True)
class MappedImage:
    """One image and its conv map or pyramid, float [1, C, h, w] (in the CPU's memory with `to_cpu`), and its scale;
    lists of maps and scales if the recipe uses several scales."""

    ref: ImageRef
    image: Image
    features: Maps
    scale: Scales


@dataclass(frozen=True)
class FailedImage:
    """An image that could not be read (`unread`), or whose map is not finite."""

    ref: ImageRef
    error: FrcnnError
    unread: bool = False


@dataclass(frozen=True)
class _Pass:
    """One image at one scale, after the conv layers."""

    ref: ImageRef
    image: Image
    features: Map
    scale: Scale


@dataclass
class _Ready:
    ref: ImageRef
    image: Image
    pixels: Tensor
    scale: Scale


class FeaturePipeline:
    """Yields the maps of images in order. Afterwards `busy` is the fraction of the time that the network computed."""

    def __init__(self, detector: Detector, dtype: str = "float16", batch: int | None = None, to_cpu: bool = True):
        """
        Args:
            dtype: "float16" or "float32", to which maps are rounded.
            batch: maximum number of images of equal shape per batch; by default 8 on a GPU and 1 on a CPU.
            to_cpu: whether maps are copied to the CPU's memory; otherwise they stay on the device.
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
        """The fraction of the elapsed time in which the network computed: conv layers, `also_computing` blocks."""
        if self.began is None:
            return 0.0
        return self.computing / max((self.ended or time.perf_counter()) - self.began, 1e-9)

    @contextmanager
    def also_computing(self) -> Iterator[None]:
        """Counts the time of the block (the head, between two images) as time that the network computed."""
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

    def run(self, images: Iterable[tuple[ImageRef, Image | FrcnnError]]) -> Iterator[MappedImage | FailedImage]:
        """Yields a result per image, in order.

        Args:
            images: decoded images, or the errors of those that could not be read; read ahead by a few items.
        """
        self.began = time.perf_counter()
        yield from _of_one_image(self._passes(images), len(self.detector.transforms))
        self.ended = time.perf_counter()

    def _passes(self, images: Iterable[tuple[ImageRef, Image | FrcnnError]]) -> Iterator[_Pass | FailedImage]:
        """One conv pass per image and scale."""
        pending: _Batch | None = None
        ready = chain.from_iterable(prefetch(self._prepare, images, threads=1, ahead=2 * self.batch))
        for group in _of_one_shape(ready, self.batch):
            # A GPU starts this batch before the results of the previous one are awaited.
            started = None if isinstance(group, FailedImage) else _Batch(self, group)
            if pending is not None:
                yield from pending.results()
            if isinstance(group, FailedImage):
                yield group
            pending = started
        if pending is not None:
            yield from pending.results()

    def _prepare(self, item: tuple[ImageRef, Image | FrcnnError]) -> list[_Ready | FailedImage]:
        ref, image = item
        if isinstance(image, FrcnnError):
            return [FailedImage(ref, image, unread=True)]
        ready: list[_Ready | FailedImage] = []
        for transform in self.detector.transforms:
            pixels, scale = transform(image.pixels)
            ready.append(_Ready(ref, image, pixels.pin_memory() if self.on_gpu else pixels, scale))
        return ready


def _of_one_image(passes: Iterable[_Pass | FailedImage], sizes: int) -> Iterator[MappedImage | FailedImage]:
    """Groups the passes of each image; an image that fails at one scale fails as a whole."""
    found: list[_Pass | FailedImage] = []
    for one in passes:
        if isinstance(one, FailedImage) and one.unread:
            yield one
            continue
        found.append(one)
        if len(found) < sizes:
            continue
        failed = next((p for p in found if isinstance(p, FailedImage)), None)
        if failed is not None:
            yield failed
        else:
            good = [p for p in found if isinstance(p, _Pass)]
            maps: Maps = [p.features for p in good]
            scales: Scales = [p.scale for p in good]
            if sizes == 1:
                maps, scales = good[0].features, good[0].scale
            yield MappedImage(one.ref, good[0].image, maps, scales)
        found = []


def _of_one_shape(items: Iterable[_Ready | FailedImage], max_size: int) -> Iterator[list[_Ready] | FailedImage]:
    """Groups neighbouring images of equal shape."""

    def full(group: Sequence[_Ready]) -> bool:
        return len(group) == max_size or (len(group) + 1) * group[0].pixels[0].numel() > max_size * _PIXELS

    group: list[_Ready] = []
    for item in items:
        if group and (isinstance(item, FailedImage) or item.pixels.shape != group[0].pixels.shape or full(group)):
            yield group
            group = []
        if isinstance(item, FailedImage):
            yield item
        else:
            group.append(item)
    if group:
        yield group


class _Batch:
    """Images of equal shape in the conv layers: started on creation, awaited in `results`."""

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
            self.maps, self.finite = _conv_maps(pipeline, pixels)
            pipeline.computing += time.perf_counter() - began

    def _start_on_gpu(self) -> None:
        device, copies = self.pipeline.detector.device, self.pipeline.copies
        pixels = torch.cat([one.pixels[None].to(device, non_blocking=True) for one in self.group])
        self.clock = _Clock()
        maps, finite = _conv_maps(self.pipeline, pixels)
        self.clock.stop()
        # Maps are copied back on a separate stream, at the same time as the next batch's conv layers.
        copies.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(copies):
            self.finite = _to_pinned(finite)
            self.maps = mapped(_to_pinned, maps) if self.pipeline.to_cpu else maps
        for tensor in (finite, *as_tuple(maps)):
            tensor.record_stream(copies)
        self.done = copies.record_event()

    def results(self) -> Iterator[_Pass | FailedImage]:
        if self.pipeline.on_gpu:
            self.done.synchronize()
            self.pipeline.computing += self.clock.seconds()
        for i, (one, finite) in enumerate(zip(self.group, self.finite.tolist(), strict=True)):
            if finite:
                yield _Pass(one.ref, one.image, _of_image(i, self.maps), one.scale)
            else:
                yield FailedImage(one.ref, overflow(one.ref.key, self.pipeline.dtype))


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


def _conv_maps(pipeline: FeaturePipeline, pixels: Tensor) -> tuple[Map, Tensor]:
    """float32 [B, 3, h, w] -> maps [B, C, h', w'], rounded, and bool [B]: whether all values are finite."""
    maps = round_maps(pipeline.detector.features(pixels), pipeline.dtype)
    return maps, are_finite(maps)


def _of_image(i: int, maps: Map) -> Map:
    return mapped(lambda one: one[i : i + 1], maps)  # type: ignore[no-any-return]


def _to_pinned(tensor: Tensor) -> Tensor:
    there = torch.empty_like(tensor, device="cpu", pin_memory=True)
    return there.copy_(tensor, non_blocking=True)
