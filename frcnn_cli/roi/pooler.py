"""From RoIs to pooled features: where each RoI lies on the conv map, and which RoIs are the same to pooling."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frcnn_cli.roi.levels import Map, as_tuple, pyramid_level
from frcnn_cli.roi.pooling import roi_align, roi_max_pool
from frcnn_cli.roi.rois import RoIs

Pooling = Literal["max", "align", "align_v1"]


class Windows(NamedTuple):
    """RoIs as the pooling operators read them.

    corners: float32 [R, 5], image index and corners in resized pixels. level: int64 [R], the level of the pyramid.
    """

    corners: Tensor
    level: Tensor

    def at(self, index: Any) -> Self:
        """Some of them."""
        return self._replace(corners=self.corners[index], level=self.level[index])

    def to(self, device: torch.device) -> Self:
        return self._replace(corners=self.corners.to(device), level=self.level.to(device))


class RoIPooler(NamedTuple):
    """RoI max pooling (section 2.1), or RoI align with 2 x 2 samples per bin, on a grid of fixed size.

    kind: "max", "align", or "align_v1" (without the shift by half a cell, and RoIs are at least one cell wide and
        high: how Mask R-CNN and torchvision's detectors sample).
    grid: rows and columns of bins, H x W.
    strides: resized pixels per cell of the map, or of each level of a pyramid, finest first.
    cell_offsets: per level, resized pixels by which the centre of cell (i, j) lies to the right of and below
        ((j + 0.5) stride, (i + 0.5) stride); "align" corrects for it.
    """

    kind: Pooling
    grid: tuple[int, int]
    strides: tuple[int, ...]
    cell_offsets: tuple[float, ...] = (0.0,)

    @property
    def bins(self) -> int:
        """The number of bins of a RoI, H * W."""
        return self.grid[0] * self.grid[1]

    def windows(self, rois: RoIs) -> Windows:
        """What the pooling operator reads.

        For RoI align the corners are those of the box. For RoI max pooling both corners lie inside the box, as in the
        authors' code: the far corner is `x2 - 1`, `y2 - 1` before scaling, and the operator includes the cell that it
        rounds to.
        """
        corners = rois.boxes.double()
        factors = rois.scale[rois.image].repeat(1, 2)
        level = torch.zeros(len(corners), dtype=torch.int64)
        if len(self.strides) > 1:
            level = pyramid_level((corners * factors).float(), self.strides)
        if self.kind == "max":
            corners = torch.cat([corners[:, :2], corners[:, 2:] - 1], dim=1)
        scaled = (corners * factors).float()
        if self.kind == "align":
            scaled = scaled - torch.tensor(self.cell_offsets)[level][:, None]
        return Windows(torch.cat([rois.image[:, None].float(), scaled], dim=1), level)

    def unique(self, windows: Windows) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Groups windows that pooling cannot tell apart: equal ones, for max pooling after rounding to cells.

        Returns:
            first: the indices of one window per group.
            group: [R], the group of each window.
        """
        rows, level = windows.corners.cpu().numpy(), windows.level.cpu().numpy()
        if self.kind == "max":
            cells = rows[:, 1:] * (1.0 / np.array(self.strides)).astype(np.float32)[level][:, None]
            cells = np.copysign(np.floor(np.abs(cells) + np.float32(0.5)), cells)  # rounded half away from zero
            cells[:, 2:] = np.maximum(cells[:, 2:], cells[:, :2])  # at least one cell
            rows = np.concatenate([rows[:, :1], cells], axis=1).astype(np.int64)
        return _groups(np.concatenate([rows, level[:, None].astype(rows.dtype)], axis=1))

    def __call__(self, features: Map, windows: Windows) -> Tensor:
        """float [B, C, h, w], or a pyramid, and R windows -> [R, C, H, W], channels last in memory."""
        maps, level = as_tuple(features), windows.level
        scales = [1.0 / stride for stride in self.strides]
        if self.kind == "max":
            return roi_max_pool(maps, windows.corners, self.grid, scales, level)
        aligned = self.kind == "align"
        return roi_align(maps, windows.corners, self.grid, scales, sampling_ratio=2, aligned=aligned, level=level)


def _groups(rows: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    _, first, group = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    return first, group.reshape(-1)
