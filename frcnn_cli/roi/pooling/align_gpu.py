"""RoI align on the GPU, in Triton: one program per bin and up to 512 channels, all loads coalesced."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from frcnn_cli.roi.pooling.arrays import last
from frcnn_cli.roi.pooling.gpu import EXACT, Packed, block, current, packed


def forward(
    features: Sequence[Tensor],
    rois: Tensor,
    level: Tensor,
    bins: Sequence[int],
    scales: Sequence[float],
    sampling: int,
    aligned: bool,
) -> Tensor:
    """Sampled RoIs [R, C, H, W], in the dtype of the L maps `features`. level: int64 [R], the map of each RoI."""
    maps = [last(one) for one in features]
    sampled = maps[0].new_empty((len(rois), *bins, maps[0].shape[3]))
    _launch(packed(maps, scales), rois, level, sampled, len(maps[0]), sampling, aligned, backward=False)
    return sampled.permute(0, 3, 1, 2)


def backward(gradient: Tensor, rois: Tensor, scale: float, sampling: int, aligned: bool, shape: list[int]) -> Tensor:
    """The gradient of a map [B, C, h, w], summed in float32 in arbitrary order."""
    images, channels, height, width = shape
    maps = torch.zeros((images, height, width, channels), dtype=torch.float32, device=gradient.device)
    level = torch.zeros(len(rois), dtype=torch.int64, device=gradient.device)
    _launch(packed([maps], [scale]), rois, level, last(gradient), images, sampling, aligned, backward=True)
    return maps.to(gradient.dtype).permute(0, 3, 1, 2)


def _launch(
    maps: Packed, rois: Tensor, level: Tensor, bins: Tensor, images: int, sampling: int, aligned: bool, backward: bool
) -> None:
    if not bins.numel():
        return
    (_, rows, columns, channels), rois = bins.shape, rois.to(torch.float32).contiguous()
    wide = block(channels)
    with current(bins.device):
        _align[len(rois) * rows * columns, triton.cdiv(channels, wide)](
            *(maps.cells, maps.table, maps.scales, rois, level.contiguous(), bins, images, channels),
            **{"SAMPLING": sampling, "ALIGNED": aligned, "BACKWARD": backward},
            **{"ROWS": rows, "COLUMNS": columns, "BLOCK": wide, **EXACT},
        )


@triton.jit
def _span(first, last, scale, ALIGNED: tl.constexpr):
    """Start and length, in cells, of a side between two corners."""
    shift = 0.5 if ALIGNED else 0.0
    start = tl.load(first) * scale - shift
    length = tl.load(last) * scale - shift - start
    if not ALIGNED:
        length = tl.maximum(length, 1.0)
    return start, length


@triton.jit
def _samples(start, side, count, end):
    """The range of a bin's samples that may touch a map of `end` cells: the index of the first, and one past the last.
    Most samples of a huge RoI do not touch it."""
    step = tl.where(side > 0, tl.div_rn(side, tl.maximum(count, 1.0)), 1.0)
    low = tl.floor(tl.div_rn(-1 - start, step)) - 2
    high = tl.ceil(tl.div_rn(end - start, step)) + 2
    low, high = tl.where(side > 0, low, 0.0), tl.where(side > 0, high, 1024.0)  # an inverted RoI: a fixed number
    low = tl.minimum(tl.maximum(low, 0.0), tl.maximum(count, 0.0))
    high = tl.minimum(tl.maximum(high, 0.0), tl.maximum(count, 0.0))
    return low.to(tl.int32), high.to(tl.int32)


@triton.jit
def _neighbours(at, end):
    """The two cells on either side of a coordinate, and their weights, which are 0 outside the map."""
    outside = (at < -1) | (at > end)
    at = tl.minimum(tl.maximum(at, 0.0), end - 1.0)
    low = at.to(tl.int32)
    part = at - low.to(tl.float32)
    near, far = tl.where(outside, 0.0, 1 - part), tl.where(outside, 0.0, part)
    return low, tl.minimum(low + 1, end - 1), near, far


@triton.jit
def _align(
    maps,
    table,
    scales,
    rois,
    level,
    bins,
    images,
    channels,
    SAMPLING: tl.constexpr,
    ALIGNED: tl.constexpr,
    BACKWARD: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Forward: computes `bins` from `maps`. Backward: adds the gradient in `bins` to the gradient in `maps`."""
    number = tl.program_id(0)
    roi = rois + number // (ROWS * COLUMNS) * 5
    on = tl.load(level + number // (ROWS * COLUMNS))
    first_cell, scale = tl.load(table + on * 3), tl.load(scales + on)
    height, width = tl.load(table + on * 3 + 1).to(tl.int32), tl.load(table + on * 3 + 2).to(tl.int32)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = channel < channels
    of_image = tl.load(roi)
    x0, wide = _span(roi + 1, roi + 3, scale, ALIGNED)
    y0, high = _span(roi + 2, roi + 4, scale, ALIGNED)
    finite = (tl.abs(x0) < 3e38) & (tl.abs(y0) < 3e38) & (tl.abs(wide) < 3e38) & (tl.abs(high) < 3e38)
    valid = finite & (of_image >= 0) & (of_image < images)
    image = tl.where(valid, of_image, 0.0).to(tl.int64)
    x0, y0 = tl.where(valid, x0, 0.0), tl.where(valid, y0, 0.0)
    wide, high = tl.where(valid, wide, 1.0), tl.where(valid, high, 1.0)
    bin_wide, bin_high = tl.div_rn(wide, COLUMNS * 1.0), tl.div_rn(high, ROWS * 1.0)
    if SAMPLING > 0:
        rows, columns = tl.full((), SAMPLING, tl.float32), tl.full((), SAMPLING, tl.float32)
    else:
        rows, columns = tl.ceil(bin_high), tl.ceil(bin_wide)
    count = tl.maximum(rows * columns, 1.0)
    top, left = y0 + (number // COLUMNS % ROWS) * bin_high, x0 + (number % COLUMNS) * bin_wide
    first_y, end_y = _samples(top, bin_high, rows, height)
    first_x, end_x = _samples(left, bin_wide, columns, width)
    end_y = tl.where(valid, end_y, first_y)
    at = number.to(tl.int64) * channels + channel
    slope = tl.full((BLOCK,), 0.0, tl.float32)
    if BACKWARD:
        slope = tl.div_rn(tl.load(bins + at, mask=inside, other=0).to(tl.float32), count)
    total = tl.full((BLOCK,), 0.0, tl.float32)
    first = maps + (first_cell + image * height * width) * channels + channel
    for iy in range(first_y, end_y):
        y1, y2, hy, ly = _neighbours(top + tl.div_rn((iy + 0.5) * bin_high, rows), height)
        for ix in range(first_x, end_x):
            x1, x2, hx, lx = _neighbours(left + tl.div_rn((ix + 0.5) * bin_wide, columns), width)
            a, b = first + (y1 * width + x1) * channels, first + (y1 * width + x2) * channels
            c, d = first + (y2 * width + x1) * channels, first + (y2 * width + x2) * channels
            if (hy + ly) * (hx + lx) > 0:
                if BACKWARD:
                    tl.atomic_add(a, slope * (hy * hx), mask=inside, sem="relaxed")
                    tl.atomic_add(b, slope * (hy * lx), mask=inside, sem="relaxed")
                    tl.atomic_add(c, slope * (ly * hx), mask=inside, sem="relaxed")
                    tl.atomic_add(d, slope * (ly * lx), mask=inside, sem="relaxed")
                else:
                    upper = hy * hx * tl.load(a, mask=inside, other=0) + hy * lx * tl.load(b, mask=inside, other=0)
                    lower = ly * hx * tl.load(c, mask=inside, other=0) + ly * lx * tl.load(d, mask=inside, other=0)
                    total += upper + lower
    if not BACKWARD:
        tl.store(bins + at, tl.div_rn(total, count).to(bins.dtype.element_ty), mask=inside)
