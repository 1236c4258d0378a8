"""Between a conv map on a device and the columns of a features file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_columns(features: Tensor, scale: float) -> dict[str, NDArray[Any]]:
    """[1, C, h, w] and its scale -> `maps` [h*w, C] channels last, `map_size` [2], `scale`."""
    _, channels, height, width = features.shape
    cells = features[0].permute(1, 2, 0).reshape(height * width, channels).cpu().numpy()
    return {
        "maps": np.ascontiguousarray(cells),
        "map_size": np.array([height, width], np.int32),
        "scale": np.array(scale, np.float64),
    }


def from_columns(columns: Mapping[str, NDArray[Any]]) -> tuple[Tensor, float]:
    """The inverse: [1, C, h, w], channels-last in memory, and the scale.

    Raises:
        ValueError: `maps` does not have the h*w rows that `map_size` says.
    """
    height, width = (int(side) for side in columns["map_size"])
    cells = columns["maps"]
    if min(height, width) < 1 or height * width != len(cells):
        raise ValueError(f"{len(cells)} cells do not make a map of {height} x {width}")
    features = torch.from_numpy(np.ascontiguousarray(cells)).view(1, height, width, cells.shape[1])
    return features.permute(0, 3, 1, 2), float(columns["scale"])
