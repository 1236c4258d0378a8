"""RoI max pooling (Fast R-CNN, section 2.1)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import roi_pool

from frcnn_cli.boxes import Boxes
from frcnn_cli.roi import pooling_cpu


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
    floor(i h / n) to ceil((i + 1) h / n), clipped to the map; an empty bin is 0 and has no gradient. Of equal cells the
    first has the gradient.

    On a CPU our own kernel reads maps that lie channels last without a copy (others are copied); elsewhere it is
    torchvision's. Both give the same numbers to the bit.

    Args:
        features: float [B, C, h, w]. rois: float [R, 5], see `to_rois`; one that is outside, inverted or NaN pools
            nothing, or one cell. spatial_scale: 1 / stride.

    Returns:
        [R, C, output_size, output_size], of the dtype of `features`, channels last in memory where our kernel ran, with
        gradient to `features`.
    """
    if features.device.type != "cpu":
        pooled: Tensor = roi_pool(features, rois.to(features), output_size, spatial_scale)
        return pooled
    if features.requires_grad and torch.is_grad_enabled():
        pooled = torch.ops.frcnn.roi_max_pool(features, rois, output_size, spatial_scale)[0]
    else:
        pooled = torch.ops.frcnn.roi_max_pool_only(features, rois, output_size, spatial_scale)
    return pooled


@torch.library.custom_op("frcnn::roi_max_pool", mutates_args=(), device_types="cpu")
def _with_winners(features: Tensor, rois: Tensor, output_size: int, spatial_scale: float) -> tuple[Tensor, Tensor]:
    """Pooled RoIs, and which cell of the map won each bin and channel: int32 [R, C, S, S], y * w + x, -1 for none."""
    pooled, winners = pooling_cpu.forward(_maps(features), _rois(rois), output_size, spatial_scale, winners=True)
    return _pooled(pooled, features), torch.from_numpy(winners).permute(0, 3, 1, 2)


@torch.library.custom_op("frcnn::roi_max_pool_only", mutates_args=(), device_types="cpu")
def _only(features: Tensor, rois: Tensor, output_size: int, spatial_scale: float) -> Tensor:
    """Pooled RoIs alone, where nobody asks for gradients."""
    pooled, _ = pooling_cpu.forward(_maps(features), _rois(rois), output_size, spatial_scale, winners=False)
    return _pooled(pooled, features)


@torch.library.custom_op("frcnn::roi_max_pool_backward", mutates_args=(), device_types="cpu")
def _backward(gradient: Tensor, rois: Tensor, winners: Tensor, height: int, width: int, images: int) -> Tensor:
    """The gradient of the maps [B, C, h, w] from that of the pooled RoIs."""
    shape = (images, height, width, gradient.shape[1])
    cells = winners.permute(0, 2, 3, 1).contiguous().numpy()
    spread = pooling_cpu.backward(_maps(gradient), cells, _rois(rois), shape)
    return torch.from_numpy(spread).to(gradient.dtype).permute(0, 3, 1, 2)


def _maps(features: Tensor) -> pooling_cpu.Floats:
    """[B, C, h, w] as [B, h, w, C] for NumPy; half precision becomes float32, which changes no maximum."""
    last = features.detach().permute(0, 2, 3, 1)
    return np.asarray(last.to(torch.promote_types(features.dtype, torch.float32)).contiguous().numpy())


def _rois(rois: Tensor) -> NDArray[np.float32]:
    return np.asarray(rois.detach().to(torch.float32).contiguous().numpy())


def _pooled(pooled: pooling_cpu.Floats, features: Tensor) -> Tensor:
    return torch.from_numpy(pooled).to(features.dtype).permute(0, 3, 1, 2)


def _empty_like_pooled(features: Tensor, rois: Tensor, output_size: int, dtype: torch.dtype) -> Tensor:
    shape = (rois.shape[0], output_size, output_size, features.shape[1])
    return features.new_empty(shape, dtype=dtype).permute(0, 3, 1, 2)


@_with_winners.register_fake
def _(features: Tensor, rois: Tensor, output_size: int, spatial_scale: float) -> tuple[Tensor, Tensor]:
    made = _empty_like_pooled(features, rois, output_size, features.dtype)
    return made, _empty_like_pooled(features, rois, output_size, torch.int32)


@_only.register_fake
def _(features: Tensor, rois: Tensor, output_size: int, spatial_scale: float) -> Tensor:
    return _empty_like_pooled(features, rois, output_size, features.dtype)


@_backward.register_fake
def _(gradient: Tensor, rois: Tensor, winners: Tensor, height: int, width: int, images: int) -> Tensor:
    return gradient.new_empty((images, height, width, gradient.shape[1])).permute(0, 3, 1, 2)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    features, rois, _, _ = inputs
    ctx.save_for_backward(rois, output[1])
    ctx.shape = features.shape


def _differentiate(ctx: Any, gradient: Tensor, _: Tensor | None) -> tuple[Tensor, None, None, None]:
    rois, winners = ctx.saved_tensors
    images, _, height, width = ctx.shape
    spread: Tensor = torch.ops.frcnn.roi_max_pool_backward(gradient, rois, winners, height, width, images)
    return spread, None, None, None


_with_winners.register_autograd(_differentiate, setup_context=_remember)
