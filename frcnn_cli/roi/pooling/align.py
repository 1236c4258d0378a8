"""The operator `roi_align` (Mask R-CNN, section 3): what it computes, its gradient, and its kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from frcnn_cli.roi.pooling import align_cpu
from frcnn_cli.roi.pooling.arrays import as_array, at_least_float32, last, rois_as_array
from frcnn_cli.roi.pooling.eager import may_call_kernel
from frcnn_cli.roi.pooling.levels import by_level, on_level
from frcnn_cli.roi.pooling.self_check import triton_takes
from frcnn_cli.roi.pooling.validate import checked


def roi_align(
    features: Tensor | Sequence[Tensor],
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float | Sequence[float],
    sampling_ratio: int = -1,
    aligned: bool = False,
    level: Tensor | None = None,
) -> Tensor:
    """The mean, over each bin of a grid on each RoI, of samples interpolated bilinearly between the four nearest cells.

    Nothing is rounded. On a CPU the result is bit-identical to torchvision's `roi_align`. RoIs are read as float32
    whatever the dtype of the features.

    Args:
        features: float [B, C, h, w]: float16, bfloat16, float32, or float64 (CPU); or the L maps of a pyramid.
        rois: float [R, 5]: image index, and corners in pixels; a RoI with a corner that is not finite gives 0.
        output_size: rows and columns of bins, or one number for both.
        spatial_scale: 1 / stride; for a pyramid one per map.
        sampling_ratio: samples per side of a bin; 0 or less: one per cell of the bin.
        aligned: shift by half a cell, so that centres of cells and centres of pixels coincide (Detectron2); without
            it, a RoI is at least one cell wide and high.
        level: integer [R], the index of the map on which each RoI is pooled; needed for a pyramid.

    Returns:
        [R, C, H, W], in the dtype of `features`, channels last in memory, with gradient to
        `features`. On a GPU the gradient is summed in arbitrary order, unless
        `torch.use_deterministic_algorithms(True)` is set.

    Raises:
        ValueError: arguments of other shapes or dtypes, or a level that does not exist.
    """
    maps, rois, level, bins, scales = checked(features, rois, level, output_size, spatial_scale)
    if maps[0].device.type != "cpu" and not triton_takes(maps[0], "align"):
        return by_level(
            maps, level, lambda i, on: _by_torchvision(maps[i], rois[on], bins, scales[i], sampling_ratio, aligned)
        )
    arguments = (level, bins, scales, sampling_ratio, aligned)
    if may_call_kernel(*maps):
        forward = _forward_on_cpu if maps[0].device.type == "cpu" else _forward_on_gpu
        return forward(maps, rois, *arguments)
    aligned_rois: Tensor = torch.ops.frcnn.roi_align(maps, rois, *arguments)
    return aligned_rois


def _by_torchvision(
    features: Tensor, rois: Tensor, bins: tuple[int, int], scale: float, sampling_ratio: int, aligned: bool
) -> Tensor:
    import torchvision  # imported late: it imports torch._dynamo, which takes as long as torch itself

    wide = at_least_float32(features)
    pooled: Tensor = torchvision.ops.roi_align(wide, rois.to(wide), bins, scale, sampling_ratio, aligned)
    return pooled.to(features.dtype)


@torch.library.custom_op("frcnn::roi_align", mutates_args=(), device_types="cpu")
def _forward(
    features: Sequence[Tensor], rois: Tensor, level: Tensor, bins: Sequence[int], scales: Sequence[float],
    sampling_ratio: int, aligned: bool,
) -> Tensor:  # fmt: skip
    return _forward_on_cpu(features, rois, level, bins, scales, sampling_ratio, aligned)


def _forward_on_cpu(
    features: Sequence[Tensor], rois: Tensor, level: Tensor, bins: Sequence[int], scales: Sequence[float],
    sampling_ratio: int, aligned: bool,
) -> Tensor:  # fmt: skip
    maps = [as_array(last(at_least_float32(one))) for one in features]
    boxes = rois_as_array(rois).astype(maps[0].dtype)
    sampled = align_cpu.forward(maps, boxes, as_array(level), (bins[0], bins[1]), scales, sampling_ratio, aligned)
    return torch.from_numpy(sampled).to(features[0].dtype).permute(0, 3, 1, 2)


@torch.library.custom_op("frcnn::roi_align_backward", mutates_args=(), device_types="cpu")
def _backward(
    gradient: Tensor, rois: Tensor, scale: float, sampling_ratio: int, aligned: bool, shape: list[int]
) -> Tensor:
    images, channels, height, width = shape
    slopes = as_array(last(at_least_float32(gradient)))
    spread = align_cpu.backward(
        slopes,
        rois_as_array(rois).astype(slopes.dtype),
        scale,
        sampling_ratio,
        aligned,
        (images, height, width, channels),
    )
    return torch.from_numpy(spread).to(gradient.dtype).permute(0, 3, 1, 2)


@_forward.register_kernel("cuda")
def _forward_on_gpu(
    features: Sequence[Tensor], rois: Tensor, level: Tensor, bins: Sequence[int], scales: Sequence[float],
    sampling_ratio: int, aligned: bool,
) -> Tensor:  # fmt: skip
    from frcnn_cli.roi.pooling import align_gpu

    return align_gpu.forward(features, rois, level, bins, scales, sampling_ratio, aligned)


@_backward.register_kernel("cuda")
def _backward_on_gpu(
    gradient: Tensor, rois: Tensor, scale: float, sampling_ratio: int, aligned: bool, shape: list[int]
) -> Tensor:
    from frcnn_cli.roi.pooling import align_gpu

    if torch.are_deterministic_algorithms_enabled():  # slow, but always sums in the same order
        arguments = (scale, sampling_ratio, aligned, shape)
        spread: Tensor = torch.ops.frcnn.roi_align_backward(gradient.cpu(), rois.cpu(), *arguments)
        return spread.to(gradient.device)
    return align_gpu.backward(gradient, rois, scale, sampling_ratio, aligned, shape)


@_forward.register_fake
def _(
    features: Sequence[Tensor], rois: Tensor, level: Tensor, bins: Sequence[int], scales: Sequence[float],
    sampling_ratio: int, aligned: bool,
) -> Tensor:  # fmt: skip
    shape = (rois.shape[0], *bins, features[0].shape[1])
    return features[0].new_empty(shape).permute(0, 3, 1, 2)


@_backward.register_fake
def _(gradient: Tensor, rois: Tensor, scale: float, sampling_ratio: int, aligned: bool, shape: list[int]) -> Tensor:
    images, channels, height, width = shape
    return gradient.new_empty((images, height, width, channels)).permute(0, 3, 1, 2)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, rois, level, _, ctx.scales, ctx.sampling_ratio, ctx.aligned = inputs
    ctx.save_for_backward(rois, level)
    ctx.shapes = [list(one.shape) for one in features]


def _differentiate(ctx: Any, gradient: Tensor) -> tuple[list[Tensor], None, None, None, None, None, None]:
    rois, level = ctx.saved_tensors
    spread = [
        torch.ops.frcnn.roi_align_backward(
            *on_level(i, level, len(ctx.shapes), gradient, rois), scale, ctx.sampling_ratio, ctx.aligned, shape
        )
        for i, (scale, shape) in enumerate(zip(ctx.scales, ctx.shapes, strict=True))
    ]
    return spread, None, None, None, None, None, None


_forward.register_autograd(_differentiate, setup_context=_remember)
