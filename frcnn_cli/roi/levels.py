"""An image in several sizes: which RoI is pooled from which (Fast R-CNN, section 5.4; SPPnet, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from frcnn_cli.boxes import Boxes, area

# Of an image in one size, or in several: float [1, C, h, w], and resized pixels per original pixel.
Maps = Tensor | Sequence[Tensor]
Scales = float | Sequence[float]

_SIDE = 224  # pixels; what classification networks were trained on


def levels(maps: Maps, scales: Scales) -> list[tuple[Tensor, float]]:
    """Each map with its scale."""
    if isinstance(maps, Tensor):
        assert isinstance(scales, (int, float))
        return [(maps, float(scales))]
    assert not isinstance(scales, (int, float))
    return list(zip(maps, scales, strict=True))


def nearest_level(boxes: Boxes, scales: Sequence[float]) -> NDArray[np.int64]:
    """For each box the size of the image in which its area is nearest 224 x 224 pixels; of equals the first.

    Args:
        boxes: [N, 4]. scales: of each size.
    """
    areas = area(boxes).astype(np.float64)[:, None] * np.square(np.asarray(scales, np.float64))
    nearest: NDArray[np.int64] = np.abs(areas - _SIDE**2).argmin(axis=1)
    return nearest
