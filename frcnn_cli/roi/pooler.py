"""From RoIs to pooled features: where each RoI lies on the conv map, and which RoIs are the same to pooling."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frcnn_cli.roi.pooling import roi_align, roi_max_pool
from frcnn_cli.roi.rois import RoIs

Pooling = Literal["max", "align"]


class RoIPooler(NamedTuple):
    """RoI max pooling (section 2.1), or RoI align with 2 x 2 samples per bin, on a grid of fixed size.

    kind: "max" or "align".
    grid: rows and columns of bins, H x W.
    stride: resized pixels per cell of the map.
    cell_offset: resized pixels by which the centre of cell (i, j) lies to the right of and below ((j + 0.5) stride,
        (i + 0.5) stride); RoI align corrects for it.
    """

    kind: Pooling
    grid: tuple[int, int]
    stride: int
    cell_offset: float = 0.0

    @property
    def bins(self) -> int:
        """The number of bins of a RoI, H * W."""
        return self.grid[0] * self.grid[1]

    def windows(self, rois: RoIs) -> Tensor:
        """What the pooling operator reads: float32 [R, 5], image index and corners in resized pixels.

        For RoI align the corners are those of the box. For RoI max pooling both corners lie inside the box, as in the
        authors' code: the far corner is `x2 - 1`, `y2 - 1` before scaling, and the operator includes the cell that it
        rounds to.
        """
        corners = rois.boxes.double()
        if self.kind == "max":
            corners = torch.cat([corners[:, :2], corners[:, 2:] - 1], dim=1)
        scaled = (corners * rois.scale[rois.image][:, None]).float()
        if self.kind == "align":
            scaled = scaled - self.cell_offset
        return torch.cat([rois.image[:, None].float(), scaled], dim=1)

    def unique(self, windows: Tensor) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Groups windows that pooling cannot tell apart: equal ones, for max pooling after rounding to cells.

        Returns:
            first: the indices of one window per group.
            group: [R], the group of each window.
        """
        rows = windows.cpu().numpy()
        if self.kind == "max":
            cells = rows[:, 1:] * np.float32(1.0 / self.stride)
            cells = np.copysign(np.floor(np.abs(cells) + np.float32(0.5)), cells)  # rounded half away from zero
            cells[:, 2:] = np.maximum(cells[:, 2:], cells[:, :2])  # at least one cell
            rows = np.concatenate([rows[:, :1], cells], axis=1).astype(np.int64)
        return _groups(rows)

    def __call__(self, features: Tensor, windows: Tensor) -> Tensor:
        """float [B, C, h, w] and windows [R, 5] -> [R, C, H, W], channels last in memory."""
        if self.kind == "max":
            return roi_max_pool(features, windows, self.grid, 1.0 / self.stride)
        return roi_align(features, windows, self.grid, 1.0 / self.stride, sampling_ratio=2, aligned=True)


def _groups(rows: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    _, first, group = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    return first, group.reshape(-1)
