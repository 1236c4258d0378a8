"""Many images through the conv layers, without the network waiting: images are decoded and resized ahead on threads,
those of equal shape are batched, and maps are copied back from a GPU while it computes the next ones.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from frcnn_cli.core.errors import FrcnnError
from frcnn_cli.core.image import Image, ImageRef
from frcnn_cli.detector.detector import Detector
from frcnn_cli.detector.maps import are_finite, overflow, round_maps
from frcnn_cli.inference.engine import engine_for
from frcnn_cli.roi.levels import Map, Maps, Scale, Scales, mapped
from frcnn_cli.system.prefetch import prefetch

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
        self.engine = engine_for(detector.device)
        self.batch = batch or self.engine.batch
        self.to_cpu = to_cpu
        self.began: float | None = None
        self.ended: float | None = None

    @property
    def busy(self) -> float:
        """The fraction of the elapsed time in which the network computed: conv layers, `also_computing` blocks."""
        if self.began is None:
            return 0.0
        return self.engine.seconds / max((self.ended or time.perf_counter()) - self.began, 1e-9)

    def also_computing(self) -> AbstractContextManager[None]:
        """Counts the time of a block (the head, between two images) as time that the network computed."""
        return self.engine.timed()

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
            ready.append(_Ready(ref, image, self.engine.staged(pixels), scale))
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
        self.group, self.dtype = group, pipeline.dtype

        def conv_maps(pixels: Tensor) -> tuple[Map, Tensor]:
            maps = round_maps(pipeline.detector.features(pixels), pipeline.dtype)
            return maps, are_finite(maps)

        self.started = pipeline.engine.start(conv_maps, [one.pixels for one in group], pipeline.to_cpu)

    def results(self) -> Iterator[_Pass | FailedImage]:
        maps, all_finite = self.started.results()
        for i, (one, finite) in enumerate(zip(self.group, all_finite.tolist(), strict=True)):
            if finite:
                yield _Pass(one.ref, one.image, _of_image(i, maps), one.scale)
            else:
                yield FailedImage(one.ref, overflow(one.ref.key, self.dtype))


def _of_image(i: int, maps: Map) -> Map:
    return mapped(lambda one: one[i : i + 1], maps)  # type: ignore[no-any-return]
