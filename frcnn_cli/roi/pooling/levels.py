"""RoIs of a pyramid, one level after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def on_level(i: int, level: Tensor, count: int, *rows: Tensor) -> tuple[Tensor, ...]:
    """The rows [R, ...] of the RoIs of level i of `count`, in their order; channels last in memory stays so."""
    if count == 1:
        return rows
    on = torch.nonzero(level == i).flatten()
    return tuple(one[on] if one.dim() < 4 else one.permute(0, 2, 3, 1)[on].permute(0, 3, 1, 2) for one in rows)


def by_level(maps: Sequence[Tensor], level: Tensor, pool: Callable[[int, Tensor], Tensor]) -> Tensor:
    """`pool(i, rows)` of the RoIs of each level, in the order of all RoIs. For operators that read one map."""
    rows = [torch.nonzero(level == i).flatten() for i in range(len(maps))]
    pooled = torch.cat([pool(i, on) for i, on in enumerate(rows)])
    return pooled[torch.argsort(torch.cat(rows))]
