"""From boxes of an image to the RoIs that pooling reads, and which of those are one and the same to it."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frcnn_cli.boxes import Boxes

Pooling = Literal["max", "align"]


def to_rois(boxes: Boxes, scale: float, image_index: int = 0, pooling: Pooling = "max") -> Tensor:
    """Boxes of one image as RoIs: float32 [N, 5], index and corners in resized pixels.

    For RoI align, corners are the box's own. For RoI max pooling they lie inside the box, as the authors' do: the far
    ones are `x2 - 1` and `y2 - 1` before scaling, and the kernel counts the cell that such a corner rounds to in.
    """
    corners = boxes.astype(np.float64)
    if pooling == "max":
        corners[:, 2:] -= 1
    rois = np.empty((len(boxes), 5), np.float32)
    rois[:, 0] = image_index
    rois[:, 1:] = corners * scale
    return torch.from_numpy(rois)


def equal_to_pooling(rois: Tensor, spatial_scale: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Groups the RoIs of one image that max pooling cannot tell apart: those whose corners round to the same cells.

    Returns:
        first: indices of one RoI of each group. group: [R], which of them stands for each RoI.
    """
    cells = rois[:, 1:].numpy() * np.float32(spatial_scale)
    cells = np.copysign(np.floor(np.abs(cells) + np.float32(0.5)), cells).astype(np.int64)  # half away from zero
    cells[:, 2:] = np.maximum(cells[:, 2:], cells[:, :2])  # at least one cell
    return _groups(cells)


def equal(rois: Tensor) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The same for pooling that does not round: those that are equal."""
    return _groups(rois[:, 1:].numpy())


def _groups(rows: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    _, first, group = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    return first, group.reshape(-1)
