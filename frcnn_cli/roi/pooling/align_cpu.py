"""RoI align on the CPU: channels last, so that a sample is a sum of four vectors.

Glossary: B images, h x w cells, C channels, R RoIs, H x W bins; a bin has its own grid of sample points.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.roi.pooling.threads import equal_parts, equal_work, in_parts
from frcnn_cli.system.jit import kernel

Maps = NDArray[Any]  # float32 or float64


def forward(
    maps: Sequence[Maps],
    rois: Maps,
    level: NDArray[np.int64],
    bins: tuple[int, int],
    scales: Sequence[float],
    sampling: int,
    aligned: bool,
) -> Maps:
    """maps: L arrays [B, h, w, C], contiguous. rois: [R, 5], of the same dtype. level: [R], the map of each RoI.
    Returns [R, H, W, C]."""
    pooled = np.empty((len(rois), *bins, maps[0].shape[3]), maps[0].dtype)
    every, scale = tuple(maps), np.array(scales, maps[0].dtype)

    def work(start: int, stop: int) -> None:
        _align(every, rois[start:stop], level[start:stop], scale, sampling, aligned, pooled[start:stop])

    in_parts(work, equal_parts(len(rois), min_size=8))
    return pooled


def backward(
    gradient: Maps, rois: Maps, scale: float, sampling: int, aligned: bool, shape: tuple[int, int, int, int]
) -> Maps:
    """The gradient of the maps [B, h, w, C] from the gradient of the pooled RoIs [R, H, W, C].

    Each thread writes rows of the maps that no other thread writes, so the sums do not depend on the number of threads.
    """
    maps = np.zeros(shape, gradient.dtype)
    images, height = shape[:2]
    scale = gradient.dtype.type(scale)
    work = np.zeros(images * height + 1, np.int64)
    _count_rows(rois, scale, aligned, height, images, work)

    def spread(start: int, stop: int) -> None:
        _spread(gradient, rois, scale, sampling, aligned, maps, start, stop)

    in_parts(spread, equal_work(np.cumsum(work[:-1])))
    return maps


@kernel(inline="always")
def _place(roi: Any, scale: Any, aligned: bool, images: int) -> Any:
    """Image (-1: no such image, or corners that are not finite), first y and x, height and width, in cells."""
    number = type(scale)
    shift = number(0.5) if aligned else number(0)
    x, y = roi[1] * scale - shift, roi[2] * scale - shift
    wide, high = roi[3] * scale - shift - x, roi[4] * scale - shift - y
    if not aligned:
        wide, high = max(wide, number(1)), max(high, number(1))
    finite = np.isfinite(x) and np.isfinite(y) and np.isfinite(wide) and np.isfinite(high)
    image = int(roi[0]) if finite and roi[0] >= 0 and roi[0] < images else -1
    return image, y, x, high, wide


@kernel(inline="always")
def _grid(high: Any, wide: Any, bins_down: int, bins_across: int, sampling: int) -> Any:
    """Rows and columns of samples per bin (floats, because a huge RoI has more than an int can hold), the divisor of
    their sum, and height and width of a bin."""
    number = type(high)
    bin_high, bin_wide = high / number(bins_down), wide / number(bins_across)
    rows = number(sampling) if sampling > 0 else np.ceil(bin_high)
    columns = number(sampling) if sampling > 0 else np.ceil(bin_wide)
    return rows, columns, max(rows * columns, number(1)), bin_high, bin_wide


@kernel(inline="always")
def _at(start: Any, i: int, bin_side: Any, sample: int, count: Any) -> Any:
    """The coordinate of a sample of bin i."""
    number = type(start)
    return start + number(i) * bin_side + (number(sample) + number(0.5)) * bin_side / count


@kernel(inline="always")
def _samples(start: Any, bin_side: Any, count: Any, end: int) -> Any:
    """The range of a bin's samples that may touch a map of `end` cells: the index of the first, and one past the last,
    with a margin (`_neighbours` gives samples outside the map no weight). Most samples of a huge RoI do not touch it.
    """
    if not (count >= 1):
        return 0, 0
    if not (bin_side > 0):  # an inverted RoI with a fixed number of samples
        return 0, int(min(count, np.float32(1 << 10)))
    step = bin_side / count
    low, high = np.floor((-1 - start) / step) - 2, np.ceil((end - start) / step) + 2
    return int(min(max(low, 0), count)), int(min(max(high, 0), count))


@kernel(inline="always")
def _neighbours(at: Any, end: int) -> Any:
    """The two cells on either side of a coordinate, and their weights, which are 0 outside the map."""
    number = type(at)
    one, none = number(1), number(0)
    if not (at >= -1 and at <= end):
        return 0, 0, none, none
    at = max(at, none)
    low = int(at)
    if low >= end - 1:
        return end - 1, end - 1, one, none
    return low, low + 1, one - (at - number(low)), at - number(low)


@kernel()
def _align(every: Any, rois: Any, level: Any, scales: Any, sampling: int, aligned: bool, pooled: Any) -> None:
    _, bins_down, bins_across, _ = pooled.shape
    for r in range(len(rois)):
        maps, scale = every[level[r]], scales[level[r]]
        images, height, width, channels = maps.shape
        image, y0, x0, high, wide = _place(rois[r], scale, aligned, images)
        rows, columns, count, bin_high, bin_wide = _grid(high, wide, bins_down, bins_across, sampling)
        for i in range(bins_down):
            first_y, end_y = _samples(y0 + type(scale)(i) * bin_high, bin_high, rows, height)
            for j in range(bins_across):
                first_x, end_x = _samples(x0 + type(scale)(j) * bin_wide, bin_wide, columns, width)
                mean = pooled[r, i, j]
                mean[:] = 0
                if image < 0:
                    continue
                for iy in range(first_y, end_y):
                    y1, y2, hy, ly = _neighbours(_at(y0, i, bin_high, iy, rows), height)
                    for ix in range(first_x, end_x):
                        x1, x2, hx, lx = _neighbours(_at(x0, j, bin_wide, ix, columns), width)
                        w1, w2, w3, w4 = hy * hx, hy * lx, ly * hx, ly * lx
                        a, b, c, d = maps[image, y1, x1], maps[image, y1, x2], maps[image, y2, x1], maps[image, y2, x2]
                        for k in range(channels):
                            mean[k] += w1 * a[k] + w2 * b[k] + w3 * c[k] + w4 * d[k]
                for k in range(channels):
                    mean[k] /= count


@kernel()
def _count_rows(rois: Any, scale: Any, aligned: bool, height: int, images: int, change: Any) -> None:
    """Counts the RoIs on each row of the maps, as differences: +1 in `change` where a RoI begins, -1 where it ends."""
    for r in range(len(rois)):
        image, y0, _, high, _ = _place(rois[r], scale, aligned, images)
        if image < 0:
            continue
        top = int(min(max(y0, 0), height - 1))
        bottom = int(min(max(y0 + high, top), height - 1)) + 1
        change[image * height + top] += 1
        change[image * height + bottom] -= 1


@kernel()
def _spread(
    gradient: Any, rois: Any, scale: Any, sampling: int, aligned: bool, maps: Any, first_row: int, end_row: int
) -> None:
    """Adds each sample's share of the gradient of its bin to its four cells, for the rows first_row .. end_row - 1 of
    all maps together."""
    images, height, width, channels = maps.shape
    _, bins_down, bins_across, _ = gradient.shape
    for r in range(len(rois)):
        image, y0, x0, high, wide = _place(rois[r], scale, aligned, images)
        if image < 0:
            continue
        begin, end = first_row - image * height, end_row - image * height
        if end <= 0 or begin >= height:
            continue
        rows, columns, count, bin_high, bin_wide = _grid(high, wide, bins_down, bins_across, sampling)
        for i in range(bins_down):
            first_y, end_y = _samples(y0 + type(scale)(i) * bin_high, bin_high, rows, height)
            for j in range(bins_across):
                first_x, end_x = _samples(x0 + type(scale)(j) * bin_wide, bin_wide, columns, width)
                slope = gradient[r, i, j]
                for iy in range(first_y, end_y):
                    y1, y2, hy, ly = _neighbours(_at(y0, i, bin_high, iy, rows), height)
                    upper, lower = begin <= y1 < end, begin <= y2 < end
                    if not (upper or lower):
                        continue
                    for ix in range(first_x, end_x):
                        x1, x2, hx, lx = _neighbours(_at(x0, j, bin_wide, ix, columns), width)
                        w1, w2, w3, w4 = hy * hx, hy * lx, ly * hx, ly * lx
                        if upper:
                            a, b = maps[image, y1, x1], maps[image, y1, x2]
                            for k in range(channels):
                                a[k] += slope[k] * w1 / count
                            for k in range(channels):
                                b[k] += slope[k] * w2 / count
                        if lower:
                            c, d = maps[image, y2, x1], maps[image, y2, x2]
                            for k in range(channels):
                                c[k] += slope[k] * w3 / count
                            for k in range(channels):
                                d[k] += slope[k] * w4 / count
