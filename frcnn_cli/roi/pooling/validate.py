"""Validation of the arguments of the pooling operators, where they enter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Arguments(NamedTuple):
    """The arguments of a pooling operator: L maps [B, C, h, w], RoIs [R, 5], int64 [R] the map of each RoI, rows and
    columns of bins, and L scales."""

    maps: list[Tensor]
    rois: Tensor
    level: Tensor
    bins: tuple[int, int]
    scales: list[float]


def checked(
    features: Tensor | Sequence[Tensor],
    rois: Tensor,
    level: Tensor | None,
    output_size: int | tuple[int, int],
    spatial_scale: float | Sequence[float],
) -> Arguments:
    """The arguments, one map as a list of one; refuses what the kernels do not support.

    Raises:
        ValueError: features that are not floating point [B, C, h, w], or levels of different dtype, device, B or C;
            RoIs that are not floating point [R, 5]; an output size below 1; a number of scales that is not the number
            of levels; levels of RoIs that are not integers [R], or that do not exist.
    """
    maps = [features] if isinstance(features, Tensor) else list(features)
    scales = [float(s) for s in spatial_scale] if isinstance(spatial_scale, Sequence) else [float(spatial_scale)]
    _check_maps(maps)
    if rois.dim() != 2 or rois.shape[1] != 5 or not rois.is_floating_point():
        raise ValueError(
            f"expected floating-point RoIs [R, 5] (image index, x1, y1, x2, y2), got {rois.dtype} {list(rois.shape)}"
        )
    if len(scales) != len(maps):
        raise ValueError(f"expected one scale per map, got {len(maps)} maps and {len(scales)} scales")
    return Arguments(maps, rois, _checked_level(level, rois, len(maps)), _checked_bins(output_size), scales)


def _check_maps(maps: Sequence[Tensor]) -> None:
    if not maps:
        raise ValueError("expected at least one map")
    for one in maps:
        if one.dim() != 4 or not one.is_floating_point():
            raise ValueError(f"expected floating-point features [B, C, h, w], got {one.dtype} {list(one.shape)}")
        if (one.dtype, one.device, one.shape[:2]) != (maps[0].dtype, maps[0].device, maps[0].shape[:2]):
            raise ValueError("the maps of a pyramid must have the same dtype, device, batch size and channels")


def _checked_level(level: Tensor | None, rois: Tensor, count: int) -> Tensor:
    if level is None:
        if count > 1:
            raise ValueError(f"expected the level of each RoI, because there are {count} maps")
        return torch.zeros(len(rois), dtype=torch.int64, device=rois.device)
    if level.shape != rois.shape[:1] or level.is_floating_point() or level.dtype == torch.bool:
        raise ValueError(f"expected integer levels [R], got {level.dtype} {list(level.shape)}")
    if len(level) and not 0 <= int(level.min()) <= int(level.max()) < count:
        raise ValueError(f"levels must be from 0 to {count - 1}, not {int(level.min())} to {int(level.max())}")
    return level.to(rois.device, torch.int64)


def _checked_bins(output_size: int | tuple[int, int]) -> tuple[int, int]:
    bins = output_size if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    if len(bins) != 2 or min(bins) < 1:
        raise ValueError(f"expected an output size of at least 1, or two of them, got {output_size}")
    return int(bins[0]), int(bins[1])
