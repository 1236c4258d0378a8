"""From which map each RoI is pooled: of an image at several scales (Fast R-CNN, section 5.4; SPPnet, section 3.1), or
of a feature pyramid (FPN, section 4.2).

An image at one scale has one map, or a tuple of maps, the levels of its pyramid, finest first. An image at several
scales has a list of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frcnn_cli.core.boxes import Boxes, area

Map = Tensor | tuple[Tensor, ...]  # float [B, C, h, w], or the levels of a pyramid
Scale = float | tuple[float, float]  # resized pixels per original pixel; along x and along y where they differ
Maps = Map | list[Tensor] | list[Map]  # of an image at one scale, or at several
Scales = Scale | list[float] | list[Scale]

_SIDE = 224  # pixels; the input size that classification networks were trained on
_LEVEL = 4  # log2 of the stride of the level on which a RoI of that size is pooled
_ROUNDING = 1e-6  # of torchvision: a RoI of exactly twice the size is on the next level

T = TypeVar("T")


def levels(maps: Maps, scales: Scales) -> list[tuple[Map, Scale]]:
    """The map or pyramid of each scale of an image.

    Raises:
        ValueError: the numbers of maps and scales differ.
    """
    if isinstance(maps, list) != isinstance(scales, list):
        raise ValueError("pass one scale with one map, and a list of scales with a list of maps")
    if isinstance(maps, list) and isinstance(scales, list):
        return list(zip(maps, scales, strict=True))
    return [(maps, scales)]  # type: ignore[list-item]


def mapped(function: Callable[[Tensor], Tensor], maps: Any) -> Any:
    """`function` applied to every map; tuples and lists stay what they are."""
    if isinstance(maps, Tensor):
        return function(maps)
    return type(maps)(mapped(function, one) for one in maps)


def as_tuple(maps: Map) -> tuple[Tensor, ...]:
    """The levels of a pyramid, or the one map."""
    return (maps,) if isinstance(maps, Tensor) else tuple(maps)


def nearest_level(boxes: Boxes, scales: Sequence[Scale]) -> NDArray[np.int64]:
    """For each box the index of the scale at which its area is closest to 224 x 224 pixels; of equals the first.

    Args:
        boxes: [N, 4] in original pixels. scales: resized pixels per original pixel.
    """
    growth = [math.prod(scale) if isinstance(scale, tuple) else float(scale) ** 2 for scale in scales]
    areas = area(boxes).astype(np.float64)[:, None] * np.array(growth)
    nearest: NDArray[np.int64] = np.abs(areas - _SIDE**2).argmin(axis=1)
    return nearest


def pyramid_level(boxes: Tensor, strides: Sequence[int]) -> Tensor:
    """For each box the index of its level in a pyramid: 4 + log2(sqrt(area) / 224), rounded down, is the log2 of the
    stride; smaller and larger boxes use the first and the last level. (FPN, equation 1, as torchvision computes it.)

    Args:
        boxes: float32 [R, 4] in resized pixels. strides: of the levels, finest first.

    Returns:
        int64 [R].
    """
    first, last = (round(math.log2(stride)) for stride in (strides[0], strides[-1]))
    side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    wanted = torch.floor(_LEVEL + torch.log2(side / _SIDE) + _ROUNDING)
    return wanted.nan_to_num(nan=first).clamp(first, last).long() - first
