"""An image at several scales: from which map each RoI is pooled (Fast R-CNN, section 5.4; SPPnet, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from frcnn_cli.core.boxes import Boxes, area

# The conv map of an image at one scale, or its maps at several: float [1, C, h, w]; resized pixels per original pixel.
Maps = Tensor | Sequence[Tensor]
Scales = float | Sequence[float]

_SIDE = 224  # pixels; the input size that classification networks were trained on


def levels(maps: Maps, scales: Scales) -> list[tuple[Tensor, float]]:
    """Each map with its scale.

    Raises:
        ValueError: the numbers of maps and scales differ.
    """
    if isinstance(maps, Tensor) != isinstance(scales, (int, float)):
        raise ValueError("pass one scale with one map, and a list of scales with a list of maps")
    if isinstance(maps, Tensor):
        return [(maps, float(scales))]  # type: ignore[arg-type]
    return list(zip(maps, scales, strict=True))  # type: ignore[arg-type]


def nearest_level(boxes: Boxes, scales: Sequence[float]) -> NDArray[np.int64]:
    """For each box the index of the scale at which its area is closest to 224 x 224 pixels; of equals the first.

    Args:
        boxes: [N, 4] in original pixels. scales: resized pixels per original pixel.
    """
    areas = area(boxes).astype(np.float64)[:, None] * np.square(np.asarray(scales, np.float64))
    nearest: NDArray[np.int64] = np.abs(areas - _SIDE**2).argmin(axis=1)
    return nearest
