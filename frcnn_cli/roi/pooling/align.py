"""The operator `roi_align` (Mask R-CNN, section 3): what it computes, its gradient, and which kernel does it."""

from __future__ import annotations

from typing import Any

import torch
import torchvision
from torch import Tensor

from frcnn_cli.roi.pooling import align_cpu
from frcnn_cli.roi.pooling.arrays import as_array, at_least_float32, last, rois_as_array
from frcnn_cli.roi.pooling.gpu import triton_takes


def roi_align(
    features: Tensor,
    rois: Tensor,
    output_size: int,
    spatial_scale: float,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Tensor:
    """The mean, over each cell of a grid laid on each RoI, of samples interpolated between the four nearest cells.

    Nothing is rounded. The numbers are torchvision's (`roi_align`) to the bit on a CPU, RoIs being float32 whatever
    the maps are.

    Args:
        features: float [B, C, h, w], of float16, bfloat16, float32 or float64 (CPU). rois: float [R, 5], index and
            corners in pixels; one with a corner that is not finite gives 0. spatial_scale: 1 / stride.
        sampling_ratio: samples along each side of a bin; 0 or less: as many as the bin has cells.
        aligned: shift by half a cell, so that the middle of a cell is what pixels' middles are (Detectron2); without,
            a RoI is at least one cell.

    Returns:
        [R, C, output_size, output_size], of the dtype of `features`, channels last in memory, with gradient to
        `features`. On a GPU that gradient is summed in any order, unless `torch.use_deterministic_algorithms(True)`.
    """
    arguments = (output_size, spatial_scale, sampling_ratio, aligned)
    if features.device.type != "cpu" and not triton_takes(features):
        wide = at_least_float32(features)
        pooled: Tensor = torchvision.ops.roi_align(wide, rois.to(wide), *arguments).to(features.dtype)
        return pooled
    aligned_rois: Tensor = torch.ops.frcnn.roi_align(features, rois, *arguments)
    return aligned_rois


@torch.library.custom_op("frcnn::roi_align", mutates_args=(), device_types="cpu")
def _forward(
    features: Tensor, rois: Tensor, output_size: int, spatial_scale: float, sampling_ratio: int, aligned: bool
) -> Tensor:
    maps = as_array(last(at_least_float32(features)))
    sampled = align_cpu.forward(
        maps, rois_as_array(rois).astype(maps.dtype), output_size, spatial_scale, sampling_ratio, aligned
    )
    return torch.from_numpy(sampled).to(features.dtype).permute(0, 3, 1, 2)


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
    features: Tensor, rois: Tensor, output_size: int, spatial_scale: float, sampling_ratio: int, aligned: bool
) -> Tensor:
    from frcnn_cli.roi.pooling import align_gpu

    return align_gpu.forward(features, rois, output_size, spatial_scale, sampling_ratio, aligned)


@_backward.register_kernel("cuda")
def _backward_on_gpu(
    gradient: Tensor, rois: Tensor, scale: float, sampling_ratio: int, aligned: bool, shape: list[int]
) -> Tensor:
    from frcnn_cli.roi.pooling import align_gpu

    if torch.are_deterministic_algorithms_enabled():  # slow, and the same sums in the same order
        arguments = (scale, sampling_ratio, aligned, shape)
        spread: Tensor = torch.ops.frcnn.roi_align_backward(gradient.cpu(), rois.cpu(), *arguments)
        return spread.to(gradient.device)
    return align_gpu.backward(gradient, rois, scale, sampling_ratio, aligned, shape)


@_forward.register_fake
def _(
    features: Tensor, rois: Tensor, output_size: int, spatial_scale: float, sampling_ratio: int, aligned: bool
) -> Tensor:
    shape = (rois.shape[0], output_size, output_size, features.shape[1])
    return features.new_empty(shape).permute(0, 3, 1, 2)


@_backward.register_fake
def _(gradient: Tensor, rois: Tensor, scale: float, sampling_ratio: int, aligned: bool, shape: list[int]) -> Tensor:
    images, channels, height, width = shape
    return gradient.new_empty((images, height, width, channels)).permute(0, 3, 1, 2)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, rois, _, ctx.scale, ctx.sampling_ratio, ctx.aligned = inputs
    ctx.save_for_backward(rois)
    ctx.shape = list(features.shape)


def _differentiate(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None, None]:
    (rois,) = ctx.saved_tensors
    spread: Tensor = torch.ops.frcnn.roi_align_backward(
        gradient, rois, ctx.scale, ctx.sampling_ratio, ctx.aligned, ctx.shape
    )
    return spread, None, None, None, None, None


_forward.register_autograd(_differentiate, setup_context=_remember)
