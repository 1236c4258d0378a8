"""RoI max pooling on the GPU, in Triton: one program per bin and up to 512 channels.

All channels of a cell are adjacent in memory, so each load of a cell is coalesced; programs of the same RoI run at the
same time and find its cells in the cache. Memory traffic is the map, read once, and the pooled RoIs, written once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from frcnn_cli.roi.pooling.arrays import last
from frcnn_cli.roi.pooling.gpu import EXACT, block, current, packed
from frcnn_cli.roi.pooling.max_pool_cpu import fits_16_bits


def forward(
    features: Sequence[Tensor],
    rois: Tensor,
    level: Tensor,
    bins: Sequence[int],
    scales: Sequence[float],
    winners: bool,
) -> tuple[Tensor, Tensor]:
    """Pooled RoIs [R, C, H, W], and the index y * w + x of the first largest cell per bin (or an empty tensor).

    features: L maps. level: int64 [R], the map of each RoI.
    """
    maps, rois = [last(one) for one in features], rois.to(torch.float32).contiguous()
    images, channels = len(maps[0]), maps[0].shape[3]
    shape = (len(rois), *bins, channels)
    pooled = maps[0].new_empty(shape)
    largest = max(one.shape[1] * one.shape[2] for one in maps)
    number = torch.int16 if fits_16_bits(largest) else torch.int32
    cells = pooled.new_empty(shape if winners else (0, 0, 0, 0), dtype=number)
    if pooled.numel():
        wide = block(channels)
        with current(pooled.device):
            _pool[len(rois) * bins[0] * bins[1], triton.cdiv(channels, wide)](
                *(*packed(maps, scales), rois, level.contiguous(), pooled, cells, images, channels),
                torch.finfo(pooled.dtype).min,
                # Two warps of 32 threads: 0.092 ms for 2,000 RoIs on an H100, where four take 0.114 and one 0.094.
                **{"ROWS": bins[0], "COLUMNS": bins[1], "WINNERS": winners, "BLOCK": wide, "num_warps": 2, **EXACT},
            )
    return pooled.permute(0, 3, 1, 2), cells.permute(0, 3, 1, 2)


def backward(gradient: Tensor, rois: Tensor, winners: Tensor, scale: float, shape: list[int]) -> Tensor:
    """The gradient of the maps [B, C, h, w], summed in float32: in the order of the RoIs if PyTorch's deterministic
    algorithms are enabled, otherwise in arbitrary order."""
    images, channels, height, width = shape
    slopes, cells, rois = last(gradient), last(winners), rois.to(torch.float32).contiguous()
    maps = torch.zeros((images, height, width, channels), dtype=torch.float32, device=gradient.device)
    count, bins = len(slopes), slopes.shape[1:3]
    wide = block(channels)
    blocks, options = triton.cdiv(channels, wide), {"ROWS": bins[0], "COLUMNS": bins[1], "BLOCK": wide, **EXACT}
    if slopes.numel():
        with current(maps.device):
            if torch.are_deterministic_algorithms_enabled():
                _gather[images * height * width, blocks](
                    *(slopes, cells, rois, maps, count, images, height, width, channels, float(scale)), **options
                )
            else:
                _scatter[count * bins[0] * bins[1], blocks](
                    *(slopes, cells, rois, maps, images, height * width, channels), **options
                )
    return maps.to(gradient.dtype).permute(0, 3, 1, 2)


@triton.jit
def _cell(corner):
    """A coordinate rounded half away from zero and limited to a range around any map; NaN becomes its lower end."""
    corner = tl.where(corner > -1048576.0, corner, -1048576.0)
    corner = tl.where(corner < 1048576.0, corner, 1048576.0)
    return tl.where(corner >= 0, tl.floor(corner + 0.5), tl.ceil(corner - 0.5)).to(tl.int32)


@triton.jit
def _image(roi, images):
    """The image of a RoI; -1: no such image."""
    number = tl.load(roi)
    return tl.where((number >= 0) & (number < images), number, -1.0).to(tl.int32)


@triton.jit
def _span(first, last, scale):
    """Along one axis, the first cell of a RoI and its number of cells, from the coordinates of its corners."""
    start = _cell(tl.load(first) * scale)
    return start, tl.maximum(_cell(tl.load(last) * scale) - start + 1, 1)


@triton.jit
def _bin(i, start, length, end, COUNT: tl.constexpr):
    """First and last + 1 cell of bin i of `COUNT` of a RoI, on a map of `end` cells."""
    step = tl.div_rn(length.to(tl.float32), COUNT * 1.0)
    first = tl.floor(i * step).to(tl.int32) + start
    last = tl.ceil((i + 1) * step).to(tl.int32) + start
    return tl.minimum(tl.maximum(first, 0), end), tl.minimum(tl.maximum(last, 0), end)


@triton.jit
def _pool(
    maps,
    table,
    scales,
    rois,
    level,
    pooled,
    winners,
    images,
    channels,
    lowest,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    WINNERS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    number = tl.program_id(0)
    roi = rois + number // (ROWS * COLUMNS) * 5
    on = tl.load(level + number // (ROWS * COLUMNS))
    first_cell, scale = tl.load(table + on * 3), tl.load(scales + on)
    height, width = tl.load(table + on * 3 + 1).to(tl.int32), tl.load(table + on * 3 + 2).to(tl.int32)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = channel < channels
    image = _image(roi, images)
    x0, wide = _span(roi + 1, roi + 3, scale)
    y0, high = _span(roi + 2, roi + 4, scale)
    top, bottom = _bin(number // COLUMNS % ROWS, y0, high, height, ROWS)
    left, right = _bin(number % COLUMNS, x0, wide, width, COLUMNS)
    empty = (top >= bottom) | (left >= right) | (image < 0)
    bottom = tl.where(empty, top, bottom)
    best = tl.full((BLOCK,), lowest, tl.float32)
    winner = tl.full((BLOCK,), -1, tl.int32)
    first = maps + (first_cell + image.to(tl.int64) * height * width) * channels + channel
    for y in range(top, bottom):
        for x in range(left, right):
            here = y * width + x
            value = tl.load(first + here.to(tl.int64) * channels, mask=inside, other=lowest).to(tl.float32)
            larger = value > best
            best = tl.where(larger, value, best)
            winner = tl.where(larger, here, winner)
    best = tl.where(empty, 0.0, best)
    out = number.to(tl.int64) * channels + channel
    tl.store(pooled + out, best.to(pooled.dtype.element_ty), mask=inside)
    if WINNERS:
        tl.store(winners + out, winner.to(winners.dtype.element_ty), mask=inside)


@triton.jit
def _scatter(
    slopes, winners, rois, maps, images, cells, channels, ROWS: tl.constexpr, COLUMNS: tl.constexpr, BLOCK: tl.constexpr
):
    """Each bin adds its gradient to its largest cells."""
    number = tl.program_id(0)
    image = _image(rois + number // (ROWS * COLUMNS) * 5, images)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    at = number.to(tl.int64) * channels + channel
    winner = tl.load(winners + at, mask=channel < channels, other=-1).to(tl.int64)
    slope = tl.load(slopes + at, mask=channel < channels, other=0).to(tl.float32)
    cell = (image.to(tl.int64) * cells + winner) * channels + channel
    tl.atomic_add(maps + cell, slope, mask=winner >= 0, sem="relaxed")


@triton.jit
def _gather(
    slopes,
    winners,
    rois,
    maps,
    count,
    images,
    height,
    width,
    channels,
    scale,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Each cell of the maps collects the gradients of the bins in which it is the largest, in the order of the RoIs."""
    number = tl.program_id(0)
    here, row, column = number % (height * width), number // width % height, number % width
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = channel < channels
    total = tl.full((BLOCK,), 0.0, tl.float32)
    for r in range(count):
        roi = rois + r * 5
        x0, wide = _span(roi + 1, roi + 3, scale)
        y0, high = _span(roi + 2, roi + 4, scale)
        mine = _image(roi, images) == number // (height * width)
        # Include one more row and column than the RoI has: in float32 the last bin may extend so far (7 bins of 57
        # cells do).
        if mine & (row >= y0) & (row <= y0 + high) & (column >= x0) & (column <= x0 + wide):
            for i in range(ROWS):
                top, bottom = _bin(i, y0, high, height, ROWS)
                if (row >= top) & (row < bottom):
                    for j in range(COLUMNS):
                        left, right = _bin(j, x0, wide, width, COLUMNS)
                        if (column >= left) & (column < right):
                            at = tl.cast((r * ROWS + i) * COLUMNS + j, tl.int64) * channels + channel
                            won = tl.load(winners + at, mask=inside, other=-1).to(tl.int32) == here
                            total += tl.load(slopes + at, mask=inside & won, other=0).to(tl.float32)
    tl.store(maps + number.to(tl.int64) * channels + channel, total, mask=inside)
