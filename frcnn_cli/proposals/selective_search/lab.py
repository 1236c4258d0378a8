"""RGB to CIE Lab, with the integers that OpenCV's `cvtColor` returns for 8-bit images.

OpenCV computes tables for every variant of Lab and Luv at the first conversion, which takes 0.1 s in each process: more
than the whole search takes on a small image. This conversion needs two small tables.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.system.jit import kernel

_WEIGHT_BITS = 12  # of the matrix
_LINEAR_STEPS = 8  # linear intensities are stored in 1/8 grey level
_ROOT_BITS = 15  # of the cube roots

_RGB_TO_XYZ = np.array(  # sRGB primaries, white point D65
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
)
_WHITE = np.array([0.950456, 1.0, 1.088754])


def rgb_to_lab(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lab of an image.

    Args:
        pixels: RGB (sRGB), [H, W, 3] uint8.

    Returns:
        [H, W, 3] uint8: L * 255 / 100, a + 128, b + 128; equal to `cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)` for every
        colour.
    """
    lab = np.empty(pixels.shape, np.uint8)
    convert(np.ascontiguousarray(pixels).reshape(-1, 3), lab.reshape(-1, 3))
    return lab


def _linear() -> NDArray[np.int32]:
    """The linear intensity of each value of sRGB."""
    value = np.arange(256) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    table: NDArray[np.int32] = np.rint(linear * 255 * _LINEAR_STEPS).astype(np.int32)
    return table


def _roots() -> NDArray[np.int32]:
    """The function f of CIE Lab: a cube root, and a straight line near zero."""
    value = np.arange(256 * _LINEAR_STEPS * 3 // 2) / (255 * _LINEAR_STEPS)
    root = np.where(value < 216 / 24389, value * 841 / 108 + 16 / 116, np.cbrt(value))
    # Rounded to float32 first, as in OpenCV: two entries differ otherwise.
    table: NDArray[np.int32] = np.rint(root.astype(np.float32) * np.float32(1 << _ROOT_BITS)).astype(np.int32)
    return table


_LINEAR, _ROOTS = _linear(), _roots()
_MATRIX = np.rint((1 << _WEIGHT_BITS) * _RGB_TO_XYZ / _WHITE[:, None]).astype(np.int32)
_L_SHIFT = np.int32((16 * 255 * (1 << _ROOT_BITS) + 50) // 100)


@kernel()
def convert(rgb: Any, lab: Any) -> None:
    """Converts pixels. rgb: uint8 [N, 3]; lab: uint8 [N, 3], output."""
    # Global arrays are constants of the machine code, so a change of this file compiles it again.
    rounding, root_rounding = np.int32(1 << (_WEIGHT_BITS - 1)), np.int32(1 << (_ROOT_BITS - 1))
    for p in range(len(rgb)):
        r, g, b = _LINEAR[rgb[p, 0]], _LINEAR[rgb[p, 1]], _LINEAR[rgb[p, 2]]
        x = _ROOTS[np.uint32((_MATRIX[0, 0] * r + _MATRIX[0, 1] * g + _MATRIX[0, 2] * b + rounding) >> _WEIGHT_BITS)]
        y = _ROOTS[np.uint32((_MATRIX[1, 0] * r + _MATRIX[1, 1] * g + _MATRIX[1, 2] * b + rounding) >> _WEIGHT_BITS)]
        z = _ROOTS[np.uint32((_MATRIX[2, 0] * r + _MATRIX[2, 1] * g + _MATRIX[2, 2] * b + rounding) >> _WEIGHT_BITS)]
        lab[p, 0] = (296 * y - _L_SHIFT + root_rounding) >> _ROOT_BITS
        lab[p, 1] = ((500 * (x - y) + root_rounding) >> _ROOT_BITS) + 128
        lab[p, 2] = ((200 * (y - z) + root_rounding) >> _ROOT_BITS) + 128
