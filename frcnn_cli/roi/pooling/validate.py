"""Validation of the arguments of the pooling operators, where they enter."""

from __future__ import annotations

from torch import Tensor


def checked_bins(features: Tensor, rois: Tensor, output_size: int | tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of bins; refuses arguments that the kernels do not support.

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
    bins = output_size if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    if len(bins) != 2 or min(bins) < 1:
        raise ValueError(f"expected an output size of at least 1, or two of them, got {output_size}")
    return int(bins[0]), int(bins[1])
