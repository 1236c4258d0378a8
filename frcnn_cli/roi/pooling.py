"""RoI max pooling (Fast R-CNN, section 2.1)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import roi_pool

from frcnn_cli.boxes import Boxes


def to_rois(boxes: Boxes, scale: float, image_index: int = 0) -> Tensor:
    """Boxes of one image as the RoIs that pooling reads: float32 [N, 5], index and corners in resized pixels.

    The authors' corners lie inside the box, so the far ones are `x2 - 1` and `y2 - 1` before scaling; their kernel
    counts the cell that such a corner rounds to in.
    """
    corners = boxes.astype(np.float64)
    corners[:, 2:] -= 1
    rois = np.empty((len(boxes), 5), np.float32)
    rois[:, 0] = image_index
    rois[:, 1:] = corners * scale
    return torch.from_numpy(rois)


def roi_max_pool(features: Tensor, rois: Tensor, output_size: int, spatial_scale: float) -> Tensor:
    """The maximum over each cell of a grid laid on each RoI.

    Corners times `spatial_scale`, rounded half away from zero, end inclusive, at least one cell. Bin i of n covers
    floor(i h / n) to ceil((i + 1) h / n), clipped to the map; an empty bin is 0 and has no gradient.

    Args:
        features: float [B, C, h, w]. rois: float [R, 5], see `to_rois`. spatial_scale: 1 / stride.

    Returns:
        [R, C, output_size, output_size], of the dtype of `features`, with gradient to `features`.
    """
    pooled: Tensor = roi_pool(features, rois, output_size, spatial_scale)
    return pooled
