"""The operator `roi_max_pool` (Fast R-CNN, section 2.1): what it computes, its gradient, and its kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frcnn_cli.roi.pooling import max_pool_cpu
from frcnn_cli.roi.pooling.arrays import as_array, at_least_float32, half_as_keys, keys_as_half, last, rois_as_array
from frcnn_cli.roi.pooling.eager import may_call_kernel
from frcnn_cli.roi.pooling.levels import by_level, on_level
from frcnn_cli.roi.pooling.self_check import triton_takes
from frcnn_cli.roi.pooling.validate import checked


def roi_max_pool(
    features: Tensor | Sequence[Tensor],
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float | Sequence[float],
    level: Tensor | None = None,
) -> Tensor:
    """The maximum over each bin of a grid on each RoI.

    Corners are multiplied by `spatial_scale` and rounded half away from zero; the end is inclusive, and a RoI is at
    least one cell wide and high. Bin i of n covers floor(i h / n) to ceil((i + 1) h / n), clipped to the map; an empty
    bin gives 0 and has no gradient. Of equal cells the first receives the gradient. The result is bit-identical to
    torchvision's `roi_pool`, except that half precision turns -0 into 0. RoIs are read as float32, whatever the dtype
    of the features.

    Features that are channels last in memory are read in place; others are copied.

    Args:
        features: float [B, C, h, w]: float16, bfloat16, float32, or float64 (CPU); or the L maps of a pyramid.
        rois: float [R, 5]: image index, and corners in pixels; RoIs that lie outside their map pool nothing (0); an
            inverted RoI counts as one cell wide or high; NaN counts as a corner far to the left or above.
        output_size: rows and columns of bins (H x W in the paper), or one number for both.
        spatial_scale: 1 / stride; for a pyramid one per map.
        level: integer [R], the index of the map on which each RoI is pooled; needed for a pyramid.

    Returns:
        [R, C, H, W], in the dtype of `features`, channels last in memory, with gradient to
        `features`. On a GPU the gradient is summed in arbitrary order, unless
        `torch.use_deterministic_algorithms(True)` is set.

    Raises:
        ValueError: arguments of other shapes or dtypes, or a level that does not exist.
    """
    maps, rois, level, bins, scales = checked(features, rois, level, output_size, spatial_scale)
    arguments = (maps, rois, level, bins, scales)
    if maps[0].device.type != "cpu" and not triton_takes(maps[0], "max"):
        return by_level(maps, level, lambda i, on: _by_torchvision(maps[i], rois[on], bins, scales[i]))
    pooled: Tensor
    if any(one.requires_grad for one in maps) and torch.is_grad_enabled():
        pooled = torch.ops.frcnn.roi_max_pool(*arguments)[0]
    elif may_call_kernel(*maps):
        pooled = (_only_on_cpu if maps[0].device.type == "cpu" else _only_on_gpu)(*arguments)
    else:
        pooled = torch.ops.frcnn.roi_max_pool_only(*arguments)
    return pooled


def _by_torchvision(features: Tensor, rois: Tensor, bins: tuple[int, int], scale: float) -> Tensor:
    import torchvision  # imported late: it imports torch._dynamo, which takes as long as torch itself

    wide = at_least_float32(features)
    pooled: Tensor = torchvision.ops.roi_pool(wide, rois.to(wide), bins, scale)
    return pooled.to(features.dtype)


@torch.library.custom_op("frcnn::roi_max_pool", mutates_args=(), device_types="cpu")
def _with_winners(
    features: Sequence[Tensor], rois: Tensor, level: Tensor, bins: Sequence[int], scales: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Pooled RoIs, and per bin and channel the index y * w + x of the largest cell, -1 for none: [R, C, H, W] each."""
    return _on_cpu(features, rois, level, bins, scales, True)


@torch.library.custom_op("frcnn::roi_max_pool_only", mutates_args=(), device_types="cpu")
def _only(
    features: Sequence[Tensor], rois: Tensor, level: Tensor, bins: Sequence[int], scales: Sequence[float]
) -> Tensor:
    """Pooled RoIs without the indices of the largest cells, for when no gradient is needed."""
    return _only_on_cpu(features, rois, level, bins, scales)


@torch.library.custom_op("frcnn::roi_max_pool_backward", mutates_args=(), device_types="cpu")
def _backward(gradient: Tensor, rois: Tensor, winners: Tensor, scale: float, shape: list[int]) -> Tensor:
    """The gradient with respect to features of that shape, from the gradient of the pooled RoIs."""
    images, channels, height, width = shape
    spread = max_pool_cpu.backward(
        as_array(last(at_least_float32(gradient))),
        as_array(last(winners)),
        rois_as_array(rois),
        scale,
        (images, height, width, channels),
    )
    return torch.from_numpy(spread).to(gradient.dtype).permute(0, 3, 1, 2)


@_with_winners.register_kernel("cuda")
def _with_winners_on_gpu(
    features: Sequence[Tensor], rois: Tensor, level: Tensor, bins: Sequence[int], scales: Sequence[float]
) -> tuple[Tensor, Tensor]:
    from frcnn_cli.roi.pooling import max_pool_gpu

    return max_pool_gpu.forward(features, rois, level, bins, scales, winners=True)


@_only.register_kernel("cuda")
def _only_on_gpu(
    features: Sequence[Tensor], rois: Tensor, level: Tensor, bins: Sequence[int], scales: Sequence[float]
) -> Tensor:
    from frcnn_cli.roi.pooling import max_pool_gpu

    return max_pool_gpu.forward(features, rois, level, bins, scales, winners=False)[0]


@_backward.register_kernel("cuda")
def _backward_on_gpu(gradient: Tensor, rois: Tensor, winners: Tensor, scale: float, shape: list[int]) -> Tensor:
    from frcnn_cli.roi.pooling import max_pool_gpu

    return max_pool_gpu.backward(gradient, rois, winners, scale, shape)


def _only_on_cpu(
    features: Sequence[Tensor], rois: Tensor, level: Tensor, bins: Sequence[int], scales: Sequence[float]
) -> Tensor:
    return _on_cpu(features, rois, level, bins, scales, False)[0]


def _on_cpu(
    features: Sequence[Tensor],
    rois: Tensor,
    level: Tensor,
    bins: Sequence[int],
    scales: Sequence[float],
    winners: bool,
) -> tuple[Tensor, Tensor]:
    maps, dtype = [last(one) for one in features], features[0].dtype
    boxes, on, grid = rois_as_array(rois), as_array(level), (bins[0], bins[1])
    if dtype.itemsize == 2:
        keys, lowest = zip(*map(half_as_keys, maps), strict=True)
        best, cells = max_pool_cpu.forward(keys, boxes, on, grid, scales, lowest[0], winners)
        pooled = keys_as_half(best, dtype)
    else:
        arrays = [as_array(one) for one in maps]
        low = np.finfo(arrays[0].dtype).min
        best, cells = max_pool_cpu.forward(arrays, boxes, on, grid, scales, low, winners)
        pooled = torch.from_numpy(best)
    return pooled.permute(0, 3, 1, 2), torch.from_numpy(cells).permute(0, 3, 1, 2)


def _like_pooled(features: Sequence[Tensor], rois: Tensor, bins: Sequence[int], dtype: torch.dtype) -> Tensor:
    one = features[0]
    return one.new_empty((rois.shape[0], *bins, one.shape[1]), dtype=dtype).permute(0, 3, 1, 2)


@_with_winners.register_fake
def _(
    features: Sequence[Tensor], rois: Tensor, level: Tensor, bins: Sequence[int], scales: Sequence[float]
) -> tuple[Tensor, Tensor]:
    largest = max(one.shape[2] * one.shape[3] for one in features)
    number = torch.int16 if max_pool_cpu.fits_16_bits(largest) else torch.int32
    return _like_pooled(features, rois, bins, features[0].dtype), _like_pooled(features, rois, bins, number)


@_only.register_fake
def _(features: Sequence[Tensor], rois: Tensor, level: Tensor, bins: Sequence[int], scales: Sequence[float]) -> Tensor:
    return _like_pooled(features, rois, bins, features[0].dtype)


@_backward.register_fake
def _(gradient: Tensor, rois: Tensor, winners: Tensor, scale: float, shape: list[int]) -> Tensor:
    images, channels, height, width = shape
    return gradient.new_empty((images, height, width, channels)).permute(0, 3, 1, 2)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    features, rois, level, _, ctx.scales = inputs
    ctx.save_for_backward(rois, level, output[1])
    ctx.shapes = [list(one.shape) for one in features]
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # otherwise every backward pass allocates zeros of the size of the winners


def _differentiate(ctx: Any, gradient: Tensor | None, _: None) -> tuple[list[Tensor | None], None, None, None, None]:
    if gradient is None:
        return [None] * len(ctx.shapes), None, None, None, None
    rois, level, winners = ctx.saved_tensors
    spread: list[Tensor | None] = []
    for i, (scale, shape) in enumerate(zip(ctx.scales, ctx.shapes, strict=True)):
        slopes, boxes, cells = on_level(i, level, len(ctx.shapes), gradient, rois, winners)
        spread.append(torch.ops.frcnn.roi_max_pool_backward(slopes, boxes, cells, scale, shape))
    return spread, None, None, None, None


_with_winners.register_autograd(_differentiate, setup_context=_remember)
