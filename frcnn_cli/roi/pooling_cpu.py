"""RoI max pooling on the CPU: channels last, so that the maximum over a bin is one of vectors.

torchvision walks each channel's plane on its own and reads a number here and there; here all channels of a cell lie
side by side, and the inner loop compares one cell's with the best so far.

Glossary: B images, h x w cells, C channels, R RoIs, S x S bins.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.jit import kernel

_FAR = np.float32(1e6)  # cells; further out than any map reaches


Floats = NDArray[np.floating[Any]]  # float32, or float64 for checks of gradients


def forward(
    maps: Floats, rois: NDArray[np.float32], size: int, scale: float, winners: bool
) -> tuple[Floats, NDArray[np.int32]]:
    """Pools every RoI.

    Args:
        maps: [B, h, w, C], contiguous.
        rois: float32 [R, 5]: image and corners, as `pooling.roi_max_pool` has them.
        winners: whether to tell which cell was the largest, for `backward`.

    Returns:
        pooled: [R, S, S, C], of the dtype of `maps`.
        cells: int32 [R, S, S, C], y * w + x of the first largest cell, -1 for an empty bin; [0] unless `winners`.
    """
    shape = (len(rois), size, size, maps.shape[3])
    pooled = np.empty(shape, maps.dtype)
    cells = np.empty(shape if winners else (0, 0, 0, 0), np.int32)
    pool = _pool_with_winners if winners else _pool
    lowest = np.finfo(maps.dtype).min  # what a maximum begins with

    def work(start: int, stop: int) -> None:
        pool(maps, rois[start:stop], size, np.float32(scale), lowest, pooled[start:stop], cells[start:stop])

    _in_parts(work, len(rois))
    return pooled, cells


def backward(gradient: Floats, cells: NDArray[np.int32], rois: NDArray[np.float32], shape: tuple[int, ...]) -> Floats:
    """The gradient of the maps, [B, h, w, C], from that of the pooled RoIs [R, S, S, C].

    Each thread has channels of its own and adds up in the order of the RoIs, so the sums are the same at any number of
    threads, and torchvision's to the bit.
    """
    maps = np.zeros(shape, gradient.dtype)
    images = np.clip(np.nan_to_num(rois[:, 0]), -1, shape[0]).astype(np.int64)  # outside: nothing was pooled there
    flat = maps.reshape(shape[0], shape[1] * shape[2], shape[3])
    _in_parts(lambda start, stop: _scatter(gradient, cells, images, flat, start, stop), shape[3], least=64)
    return maps


def _in_parts(work: Callable[[int, int], None], count: int, least: int = 32) -> None:
    """Runs `work(start, stop)` over 0 .. count on all cores; the kernels let go of the interpreter's lock."""
    parts = min(_threads(), max(1, count // least))
    if parts <= 1:
        work(0, count)
        return
    bounds = [count * i // parts for i in range(parts + 1)]
    list(_executor().map(work, bounds[:-1], bounds[1:]))


def _threads() -> int:
    import torch

    return int(torch.get_num_threads())


@cache
def _executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="roi")


@kernel(inline="always")
def _cell(corner: Any) -> Any:
    """Rounded half away from zero, and brought near: a NaN or a corner that is far out is past every map."""
    if not (corner > -_FAR):  # NaN too
        return -(1 << 20)
    if corner > _FAR:
        return 1 << 20
    return int(np.floor(corner + np.float32(0.5))) if corner >= 0 else int(np.ceil(corner - np.float32(0.5)))


@kernel(inline="always")
def _bin(i: int, length: int, size: int, start: int, end: int) -> Any:
    """First and last + 1 cell of bin i of a RoI that begins at `start` and is `length` long, on a map that ends at
    `end`."""
    step = np.float32(length) / np.float32(size)
    first = int(np.floor(np.float32(i) * step)) + start
    last = int(np.ceil(np.float32(i + 1) * step)) + start
    return min(max(first, 0), end), min(max(last, 0), end)


@kernel()
def _pool(maps: Any, rois: Any, size: int, scale: Any, lowest: Any, pooled: Any, cells: Any) -> None:
    images, height, width, channels = maps.shape
    for r in range(len(rois)):
        image = int(rois[r, 0])
        x1, y1 = _cell(rois[r, 1] * scale), _cell(rois[r, 2] * scale)
        long = max(_cell(rois[r, 3] * scale) - x1 + 1, 1)
        high = max(_cell(rois[r, 4] * scale) - y1 + 1, 1)
        for i in range(size):
            top, bottom = _bin(i, high, size, y1, height)
            for j in range(size):
                left, right = _bin(j, long, size, x1, width)
                best = pooled[r, i, j]
                if bottom <= top or right <= left or image < 0 or image >= images:
                    best[:] = 0
                    continue
                best[:] = lowest
                for y in range(top, bottom):
                    for x in range(left, right):
                        cell = maps[image, y, x]
                        for c in range(channels):
                            best[c] = cell[c] if cell[c] > best[c] else best[c]


@kernel()
def _pool_with_winners(maps: Any, rois: Any, size: int, scale: Any, lowest: Any, pooled: Any, cells: Any) -> None:
    images, height, width, channels = maps.shape
    for r in range(len(rois)):
        image = int(rois[r, 0])
        x1, y1 = _cell(rois[r, 1] * scale), _cell(rois[r, 2] * scale)
        long = max(_cell(rois[r, 3] * scale) - x1 + 1, 1)
        high = max(_cell(rois[r, 4] * scale) - y1 + 1, 1)
        for i in range(size):
            top, bottom = _bin(i, high, size, y1, height)
            for j in range(size):
                left, right = _bin(j, long, size, x1, width)
                best = pooled[r, i, j]
                winner = cells[r, i, j]
                winner[:] = -1
                if bottom <= top or right <= left or image < 0 or image >= images:
                    best[:] = 0
                    continue
                best[:] = lowest
                for y in range(top, bottom):
                    for x in range(left, right):
                        cell = maps[image, y, x]
                        here = np.int32(y * width + x)
                        for c in range(channels):
                            larger = cell[c] > best[c]
                            best[c] = cell[c] if larger else best[c]
                            winner[c] = here if larger else winner[c]


@kernel()
def _scatter(gradient: Any, cells: Any, images: Any, maps: Any, start: int, stop: int) -> None:
    count, size = gradient.shape[0], gradient.shape[1]
    for r in range(count):
        for i in range(size):
            for j in range(size):
                for c in range(start, stop):
                    cell = cells[r, i, j, c]
                    if cell >= 0:
                        maps[images[r], cell, c] += gradient[r, i, j, c]
