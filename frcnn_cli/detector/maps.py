"""Conv maps between layers and files: rounding, and maps that are not finite."""

from __future__ import annotations

import torch
from torch import Tensor

from frcnn_cli.core.errors import FeatureError
from frcnn_cli.detector.precision import MAP_DTYPES
from frcnn_cli.roi.levels import Map, Maps, as_tuple, mapped


def round_maps(maps: Map, dtype: str) -> Map:
    """Conv maps rounded to "float16" or "float32"."""
    return mapped(lambda one: one.to(MAP_DTYPES[dtype]), maps)  # type: ignore[no-any-return]


def rounded_for_head(maps: Maps, dtype: str, key: str) -> Maps:
    """Conv maps in float32, rounded. Raises FeatureError if a value overflows."""
    rounded: Maps = mapped(lambda one: one.to(MAP_DTYPES[dtype]), maps)
    views = rounded if isinstance(rounded, list) else [rounded]
    if not all(bool(are_finite(view).all()) for view in views):
        raise overflow(key, dtype)
    return rounded


def are_finite(maps: Map) -> Tensor:
    """bool [B]: whether all values of the maps of an image are finite."""
    found = []
    for one in as_tuple(maps):
        # A sum is finite only if all its terms are, and takes a quarter of the time of a test of each.
        finite = torch.isfinite(one.sum(dim=(1, 2, 3), dtype=torch.float32))
        found.append(finite if bool(finite.all()) else torch.isfinite(one).flatten(1).all(dim=1))
    return torch.stack(found).all(dim=0)


def overflow(key: str, dtype: str) -> FeatureError:
    """The error for a conv map with a value that is not finite."""
    if dtype == "float16":
        return FeatureError(f"the conv map of {key} overflows float16", "Add --dtype float32")
    return FeatureError(f"the conv map of {key} holds NaN", "Train again from scratch with a lower learning rate")
