"""RoI max pooling on the CPU: channels last, so that the maximum over a bin is a maximum of vectors.

torchvision processes one channel after the other and reads scattered numbers; here all channels of a cell are adjacent
in memory, and the inner loop compares the channels of one cell with the best so far.

Half precision is pooled as 16-bit integers in the same order, so that half as many bytes are moved.
Glossary: B images, h x w cells, C channels, R RoIs, H x W bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.roi.pooling.threads import equal_parts, equal_work, in_parts
from frcnn_cli.system.jit import kernel

_FAR = np.float32(1 << 20)  # cells; beyond the end of any map
_FEW = 16  # bins of at most this many cells are searched by `_spread` with vectors, which is faster than one by one

Maps = NDArray[Any]  # float32, int16 (see `arrays.half_as_keys`), or float64 for gradient checks
Cells = NDArray[np.int16] | NDArray[np.int32]
Bins = tuple[int, int]  # rows and columns


def forward(
    maps: Sequence[Maps],
    rois: NDArray[np.float32],
    level: NDArray[np.int64],
    bins: Bins,
    scales: Sequence[float],
    lowest: Any,
    winners: bool,
) -> tuple[Maps, Cells]:
    """Pools every RoI.

    Args:
        maps: L arrays [B, h, w, C], contiguous.
        rois: float32 [R, 5]: image index and corners, as in `max_pool.roi_max_pool`.
        level: [R], the map of each RoI.
        bins: rows and columns of bins, H and W.
        scales: one per map.
        lowest: the initial value of a maximum, in the dtype of `maps`.
        winners: whether to return the largest cells, which `backward` needs.

    Returns:
        pooled: [R, H, W, C], in the dtype of `maps`.
        cells: [R, H, W, C], the index y * w + x of the first largest cell, -1 for an empty bin; empty unless `winners`.
    """
    shape = (len(rois), *bins, maps[0].shape[3])
    pooled = np.empty(shape, maps[0].dtype)
    index = _numbers(max(one.shape[1] * one.shape[2] for one in maps))
    cells = np.empty(shape if winners else (0, 0, 0, 0), index.dtype)

    every, scale = tuple(maps), np.array(scales, np.float32)

    def work(start: int, stop: int) -> None:
        part, on, out = rois[start:stop], level[start:stop], pooled[start:stop]
        if winners:
            _pool_with_winners(every, part, on, scale, lowest, index, out, cells[start:stop])
        else:
            _pool(every, part, on, scale, lowest, out)

    in_parts(work, equal_parts(len(rois), min_size=32))
    return pooled, cells


def fits_16_bits(cells: int) -> bool:
    """Whether the cells of a map can be numbered in 16 bits, as for nearly every map: the backward pass then reads a
    quarter less and runs at the speed of memory."""
    return cells <= np.iinfo(np.int16).max


def _numbers(count: int) -> Cells:
    """0 .. count - 1, in the dtype of the winners."""
    cells = np.arange(count)
    return cells.astype(np.int16) if fits_16_bits(count) else cells.astype(np.int32)


def backward(
    gradient: Maps, cells: Cells, rois: NDArray[np.float32], scale: float, shape: tuple[int, int, int, int]
) -> Maps:
    """The gradient of the maps [B, h, w, C] from the gradient of the pooled RoIs [R, H, W, C].

    Each thread writes rows of the maps that no other thread writes, and adds in the order of the RoIs, so the sums are
    the same for any number of threads and bit-identical to torchvision's.
    """
    maps = np.zeros(shape, gradient.dtype)
    images, height, width, _ = shape
    index = np.arange(height * width).astype(cells.dtype)
    work = np.zeros(images * height + 1, np.int64)
    _count_rows(rois, gradient.shape[1], np.float32(scale), height, images, work)
    in_parts(
        lambda start, stop: _spread(gradient, cells, rois, np.float32(scale), index, maps, start, stop),
        equal_work(np.cumsum(work[:-1])),
    )
    return maps


@kernel(inline="always")
def _cell(corner: Any) -> Any:
    """A coordinate rounded half away from zero and limited to +-`_FAR`; NaN becomes -`_FAR`."""
    corner = min(corner, _FAR) if corner > -_FAR else -_FAR
    return int(np.floor(corner + np.float32(0.5))) if corner >= 0 else int(np.ceil(corner - np.float32(0.5)))


@kernel(inline="always")
def _bin(i: int, length: int, count: int, start: int, end: int) -> Any:
    """First and last + 1 cell of bin i of `count`, of a RoI of `length` cells from `start`, on a map of `end` cells."""
    step = np.float32(length) / np.float32(count)
    first = int(np.floor(np.float32(i) * step)) + start
    last = int(np.ceil(np.float32(i + 1) * step)) + start
    return min(max(first, 0), end), min(max(last, 0), end)


@kernel(inline="always")
def _place(roi: Any, scale: Any, images: int) -> Any:
    """Image (-1: no such image), first row, first column, height and width in cells."""
    image = int(roi[0]) if roi[0] >= 0 and roi[0] < images else -1
    x, y = _cell(roi[1] * scale), _cell(roi[2] * scale)
    return image, y, x, max(_cell(roi[4] * scale) - y + 1, 1), max(_cell(roi[3] * scale) - x + 1, 1)


@kernel()
def _pool(every: Any, rois: Any, level: Any, scales: Any, lowest: Any, pooled: Any) -> None:
    _, rows, columns, _ = pooled.shape
    for r in range(len(rois)):
        maps, scale = every[level[r]], scales[level[r]]
        images, height, width, channels = maps.shape
        image, y0, x0, high, long = _place(rois[r], scale, images)
        for i in range(rows):
            top, bottom = _bin(i, high, rows, y0, height)
            for j in range(columns):
                left, right = _bin(j, long, columns, x0, width)
                best = pooled[r, i, j]
                if bottom <= top or right <= left or image < 0:
                    best[:] = 0
                    continue
                # Two cells at a time, so that `best` is read and written half as often; with an odd number of cells the
                # first one is used twice.
                wide = right - left
                count = (bottom - top) * wide
                k = 2 - count % 2
                a, b = maps[image, top, left], maps[image, top + (k - 1) // wide, left + (k - 1) % wide]
                for c in range(channels):
                    larger = a[c] if a[c] > lowest else lowest
                    best[c] = b[c] if b[c] > larger else larger
                while k < count:
                    a = maps[image, top + k // wide, left + k % wide]
                    b = maps[image, top + (k + 1) // wide, left + (k + 1) % wide]
                    for c in range(channels):
                        larger = a[c] if a[c] > best[c] else best[c]
                        best[c] = b[c] if b[c] > larger else larger
                    k += 2


@kernel()
def _pool_with_winners(
    every: Any, rois: Any, level: Any, scales: Any, lowest: Any, index: Any, pooled: Any, cells: Any
) -> None:
    _, rows, columns, _ = pooled.shape
    for r in range(len(rois)):
        maps, scale = every[level[r]], scales[level[r]]
        images, height, width, channels = maps.shape
        image, y0, x0, high, long = _place(rois[r], scale, images)
        for i in range(rows):
            top, bottom = _bin(i, high, rows, y0, height)
            for j in range(columns):
                left, right = _bin(j, long, columns, x0, width)
                best = pooled[r, i, j]
                winner = cells[r, i, j]
                winner[:] = -1
                if bottom <= top or right <= left or image < 0:
                    best[:] = 0
                    continue
                best[:] = lowest
                for y in range(top, bottom):
                    for x in range(left, right):
                        cell = maps[image, y, x]
                        here = index[y * width + x]  # in the dtype of the winners, so that vectors have equal width
                        for c in range(channels):
                            larger = cell[c] > best[c]
                            best[c] = cell[c] if larger else best[c]
                            winner[c] = here if larger else winner[c]


@kernel()
def _count_rows(rois: Any, rows: int, scale: Any, height: int, images: int, change: Any) -> None:
    """Counts the bins on each row of the maps, as differences: +1 in `change` where a bin begins, -1 where it ends."""
    for r in range(len(rois)):
        image, y0, _, high, _ = _place(rois[r], scale, images)
        if image < 0:
            continue
        for i in range(rows):
            top, bottom = _bin(i, high, rows, y0, height)
            if top < bottom:
                change[image * height + top] += 1
                change[image * height + bottom] -= 1


@kernel()
def _spread(
    gradient: Any, cells: Any, rois: Any, scale: Any, index: Any, maps: Any, first_row: int, end_row: int
) -> None:
    """Adds the gradient of each bin to its largest cell, for the rows first_row .. end_row - 1 of all maps together."""
    images, height, width, channels = maps.shape
    _, rows, columns, _ = gradient.shape
    for r in range(len(rois)):
        image, y0, x0, high, long = _place(rois[r], scale, images)
        if image < 0:
            continue
        begin, end = max(first_row - image * height, 0), min(end_row - image * height, height)
        for i in range(rows):
            top, bottom = _bin(i, high, rows, y0, height)
            top, bottom = max(top, begin), min(bottom, end)
            for j in range(columns):
                left, right = _bin(j, long, columns, x0, width)
                if bottom <= top or right <= left:
                    continue
                slope, winner = gradient[r, i, j], cells[r, i, j]
                if (bottom - top) * (right - left) <= _FEW:
                    for y in range(top, bottom):
                        for x in range(left, right):
                            here, cell = index[y * width + x], maps[image, y, x]
                            for c in range(channels):
                                cell[c] += slope[c] if winner[c] == here else slope.dtype.type(0)
                else:
                    flat = maps[image].reshape(height * width, channels)
                    for c in range(channels):
                        if begin * width <= winner[c] < end * width:
                            flat[winner[c], c] += slope[c]
