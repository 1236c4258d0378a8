"""Validation of the arguments of the pooling operators, where they enter."""

from __future__ import annotations

from torch import Tensor


def check_arguments(features: Tensor, rois: Tensor, output_size: int) -> None:
    """Refuses arguments that the kernels do not support.

    Raises:
        ValueError: features that are not floating point [B, C, h, w], RoIs that are not floating point [R, 5], or an
            output size below 1.
    """
    if features.dim() != 4 or not features.is_floating_point():
        raise ValueError(f"expected floating-point features [B, C, h, w], got {features.dtype} {list(features.shape)}")
    if rois.dim() != 2 or rois.shape[1] != 5 or not rois.is_floating_point():
        raise ValueError(
            f"expected floating-point RoIs [R, 5] (image index, x1, y1, x2, y2), got {rois.dtype} {list(rois.shape)}"
        )
    if output_size < 1:
        raise ValueError(f"expected an output size of at least 1, got {output_size}")
