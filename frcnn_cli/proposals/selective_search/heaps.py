"""The two heaps of grouping: pairs of regions by similarity, and the neighbours of a crowded region by bounds."""

from __future__ import annotations

from typing import Any

from frcnn_cli.system.jit import kernel

ROUNDING = 1e-9  # more than all rounding errors of a bound


@kernel(inline="always")
def before(key: Any, left: Any, right: Any, other_key: Any, other_left: Any, other_right: Any) -> Any:
    """Whether one pair is merged before another: more similar first, then lower numbers."""
    if key != other_key:
        return key > other_key
    if left != other_left:
        return left < other_left
    return right < other_right


@kernel()
def push(key: Any, left: Any, right: Any, heap: int, similarity: float, a: int, b: int) -> None:
    """Adds a pair (similarity, a, b) to a heap that holds `heap` pairs; the pair to merge next is on top."""
    i = heap
    while i > 0:
        up = (i - 1) >> 1
        if not before(similarity, a, b, key[up], left[up], right[up]):
            break
        key[i], left[i], right[i] = key[up], left[up], right[up]
        i = up
    key[i], left[i], right[i] = similarity, a, b


@kernel()
def pop(key: Any, left: Any, right: Any, heap: int) -> None:
    """Removes the top pair; `heap` pairs remain, and the one at index `heap` moves to its new place."""
    k, a, b = key[heap], left[heap], right[heap]
    i = 0
    while True:
        child = 2 * i + 1
        if child >= heap:
            break
        other = child + 1
        if other < heap and before(key[other], left[other], right[other], key[child], left[child], right[child]):
            child = other
        if before(k, a, b, key[child], left[child], right[child]):
            break
        key[i], left[i], right[i] = key[child], left[child], right[child]
        i = child
    key[i], left[i], right[i] = k, a, b


@kernel(inline="always")
def bound(value: Any, top: int, drifted: float) -> Any:
    """More than the highest similarity that a crowded region can have, so that of equal pairs none comes before it."""
    return value[0, top] + (drifted - value[1, top]) + ROUNDING


@kernel(inline="always")
def above(value: Any, node: Any, i: int, j: int) -> Any:
    """Whether the bound of one node is higher than that of another; of equals, the lower region comes first."""
    if value[1, i] == value[1, j]:  # then this comparison is exact
        if value[0, i] != value[0, j]:
            return value[0, i] > value[0, j]
    elif value[0, i] - value[1, i] != value[0, j] - value[1, j]:
        return value[0, i] - value[1, i] > value[0, j] - value[1, j]
    return node[0, i] < node[0, j]


@kernel()
def meld(value: Any, node: Any, x: int, y: int) -> Any:
    """Two heaps become one (a skew heap: Sleator and Tarjan, 1986); -1 is the empty heap."""
    if x < 0:
        return y
    if y < 0:
        return x
    if above(value, node, y, x):
        x, y = y, x
    root = x
    while True:
        lower = node[3, x]
        node[3, x] = node[2, x]
        if lower < 0:
            node[2, x] = y
            return root
        if above(value, node, y, lower):
            lower, y = y, lower
        node[2, x] = lower
        x = lower
