"""The colour spaces of selective search (section 3.2, table 2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.proposals.selective_search.lab import rgb_to_lab

Planes = NDArray[np.uint8]  # [H, W, C]


def blurred(pixels: NDArray[np.uint8], space: str, sigma: float) -> Planes:
    """The image in a colour space, smoothed before segmentation.

    Args:
        pixels: RGB, [H, W, 3] uint8.
        space: one of `SPACES`.
        sigma: standard deviation of the Gaussian, in pixels; 0: no smoothing.

    Returns:
        [H, W, C] uint8, every channel scaled to 0 .. 255.
    """
    import cv2

    image = SPACES[space](pixels)
    if sigma > 0:
        image = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(image.reshape(*pixels.shape[:2], -1))


def _hsv(pixels: NDArray[np.uint8]) -> Any:
    import cv2

    return cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV_FULL)


def _intensity(pixels: NDArray[np.uint8]) -> Any:
    import cv2

    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)


def _rgi(pixels: NDArray[np.uint8]) -> Any:
    """r and g of normalised rgb, and intensity."""
    total = np.maximum(pixels.sum(axis=2, dtype=np.uint16), 1)
    out = np.empty_like(pixels)
    out[..., 0] = pixels[..., 0] * np.uint16(255) // total
    out[..., 1] = pixels[..., 1] * np.uint16(255) // total
    out[..., 2] = total // 3
    return out


def _hue(pixels: NDArray[np.uint8]) -> Any:
    return _hsv(pixels)[..., 0]


def _rgb(pixels: NDArray[np.uint8]) -> Any:
    return pixels


SPACES: dict[str, Callable[[NDArray[np.uint8]], Any]] = {
    "hsv": _hsv,
    "lab": rgb_to_lab,
    "rgi": _rgi,
    "hue": _hue,
    "intensity": _intensity,
    "rgb": _rgb,
}
