"""Between the conv maps of an image and the columns of a features file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Map = Tensor | tuple[Tensor, ...]  # one map, or the levels of a pyramid
Scale = float | tuple[float, float]


def to_columns(features: Map | Sequence[Map], scale: Scale | Sequence[Scale]) -> dict[str, NDArray[Any]]:
    """A map [1, C, h, w] and its scale -> `maps` [h*w, C] channels last, `map_size` [2], `scale`.

    Several maps (the levels of a pyramid, an image at S scales, or both) are stored end to end, scale by scale;
    `map_size` is then [M, 2], for all M maps. `scale` is [S] for a list of scales. Where the scales along x and y
    differ, it is [S, 2], also for one scale.
    """
    several = isinstance(features, list)
    views: list[Map] = list(features) if several else [features]  # type: ignore[list-item]
    scales: list[Scale] = list(scale) if several else [scale]  # type: ignore[arg-type, list-item]
    maps = list(chain.from_iterable((view,) if isinstance(view, Tensor) else view for view in views))
    sizes = np.array([one.shape[2:] for one in maps], np.int32)
    single = not several and isinstance(features, Tensor)
    numbers = np.array(scales, np.float64)
    return {
        "maps": _cells(maps[0]) if single else np.concatenate([_cells(one) for one in maps]),
        "map_size": sizes[0] if single else sizes,
        "scale": numbers if several or numbers.ndim == 2 else numbers[0],
    }


def from_columns(columns: Mapping[str, NDArray[Any]]) -> tuple[Map, Scale] | tuple[list[Map], list[Scale]]:
    """The inverse of `to_columns`; maps are channels last in memory.

    Raises:
        ValueError: the number of rows in `maps` does not match `map_size`, or its number of maps not `scale`.
    """
    cells, sizes, scale = columns["maps"], columns["map_size"].astype(np.int64), np.asarray(columns["scale"])
    rows = sizes.reshape(-1, 2)
    if (rows < 1).any() or int(rows.prod(axis=1).sum()) != len(cells):
        named = " and ".join(f"{height} x {width}" for height, width in rows[:5].tolist())
        raise ValueError(f"{len(cells)} cells do not make a map of {named}")
    scales: list[Scale] = [tuple(one) if isinstance(one, list) else one for one in np.atleast_1d(scale).tolist()]
    if not scales or len(rows) % len(scales):
        raise ValueError(f"{len(rows)} maps do not belong to {len(scales)} scales")
    ends = np.cumsum(rows.prod(axis=1))[:-1]
    maps = [_map(part, *size) for part, size in zip(np.split(cells, ends), rows.tolist(), strict=True)]
    if sizes.ndim == 1:
        return maps[0], scales[0]
    levels = len(rows) // len(scales)
    pyramids = [tuple(maps[i : i + levels]) for i in range(0, len(maps), levels)]
    views: list[Map] = [each[0] if levels == 1 else each for each in pyramids]
    if len(scales) == 1 and scale.ndim != 1:
        return views[0], scales[0]
    return views, scales


def _cells(features: Tensor) -> NDArray[Any]:
    _, channels, height, width = features.shape
    cells = features[0].permute(1, 2, 0).reshape(height * width, channels).cpu().numpy()
    return np.ascontiguousarray(cells)


def _map(cells: NDArray[Any], height: int, width: int) -> Tensor:
    features = torch.from_numpy(np.ascontiguousarray(cells)).view(1, height, width, cells.shape[1])
    return features.permute(0, 3, 1, 2)
