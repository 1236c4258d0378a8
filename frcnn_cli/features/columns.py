"""Between the conv maps of an image and the columns of a features file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_columns(features: Tensor | Sequence[Tensor], scale: float | Sequence[float]) -> dict[str, NDArray[Any]]:
    """A map [1, C, h, w] and its scale -> `maps` [h*w, C] channels last, `map_size` [2], `scale`.

    For the L maps of an image at several scales: the cells of all maps end to end, `map_size` [L, 2], `scale` [L].
    """
    if isinstance(features, Tensor):
        cells = _cells(features)
        size = np.array(features.shape[2:], np.int32)
    else:
        cells = np.concatenate([_cells(one) for one in features])
        size = np.array([one.shape[2:] for one in features], np.int32)
    return {"maps": cells, "map_size": size, "scale": np.array(scale, np.float64)}


def from_columns(
    columns: Mapping[str, NDArray[Any]],
) -> tuple[Tensor, float] | tuple[list[Tensor], list[float]]:
    """The inverse of `to_columns`; maps are channels last in memory.

    Raises:
        ValueError: the number of rows in `maps` does not match `map_size`.
    """
    cells, sizes = columns["maps"], columns["map_size"].astype(np.int64)
    if (sizes < 1).any() or int(sizes.reshape(-1, 2).prod(axis=1).sum()) != len(cells):
        maps = " and ".join(f"{height} x {width}" for height, width in sizes.reshape(-1, 2)[:5].tolist())
        raise ValueError(f"{len(cells)} cells do not make a map of {maps}")
    if sizes.ndim == 1:
        return _map(cells, *sizes.tolist()), float(columns["scale"])
    ends = np.cumsum(sizes.prod(axis=1))[:-1]
    parts = zip(np.split(cells, ends), sizes.tolist(), strict=True)
    return [_map(part, *size) for part, size in parts], columns["scale"].tolist()


def _cells(features: Tensor) -> NDArray[Any]:
    _, channels, height, width = features.shape
    cells = features[0].permute(1, 2, 0).reshape(height * width, channels).cpu().numpy()
    return np.ascontiguousarray(cells)


def _map(cells: NDArray[Any], height: int, width: int) -> Tensor:
    features = torch.from_numpy(np.ascontiguousarray(cells)).view(1, height, width, cells.shape[1])
    return features.permute(0, 3, 1, 2)
