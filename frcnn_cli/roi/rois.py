"""From boxes of an image to the RoIs that pooling reads, and which of those are one and the same to it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frcnn_cli.boxes import Boxes


def to_rois(boxes: Boxes, scale: float, image_index: int = 0) -> Tensor:
    """Boxes of one image as RoIs: float32 [N, 5], index and corners in resized pixels.

    The authors' corners lie inside the box, so the far ones are `x2 - 1` and `y2 - 1` before scaling; their kernel
    counts the cell that such a corner rounds to in.
    """
    corners = boxes.astype(np.float64)
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
    _, first, group = np.unique(cells, axis=0, return_index=True, return_inverse=True)
    return first, group.reshape(-1)
