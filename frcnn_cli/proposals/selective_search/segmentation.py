"""Graph-based segmentation (Felzenszwalb and Huttenlocher, IJCV 2004), at many scales k of one image.

Pixels are nodes with edges to their eight neighbours; the weight of an edge is the distance of the two colours. In the
order of the weights, an edge merges two components if its weight is at most Int(C) + k / |C| for both components C,
where Int(C) is the largest weight inside. Then components below a minimum size are merged in the same order.

The order of the edges does not depend on k, so they are sorted once. Weights are multiples of 1/16 grey level, which
allows a counting sort; equal weights are in the order of (direction, pixel).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from frcnn_cli.system.jit import kernel

WEIGHT_STEPS = 16  # weights are in 1/16 grey levels: 441.7 * 16 < 2**13
_BUCKETS = 1 << 13
_FLATTENINGS = 8  # times that the forest is flattened while edges are processed: 15% faster than 0, 1 or 4
# Most edges are inside a component already. Those of a block are dropped first, without a branch that processors would
# have to predict: 8% faster.
_BLOCK = 4096
_COMPONENT = np.dtype([("size", np.int32), ("limit", np.float32)])  # limit: Int(C) + k / |C|; adjacent in memory


@kernel()
def sorted_edges(image: Any) -> Any:
    """All edges between neighbouring pixels, lightest first.

    Args:
        image: [H, W, C] uint8, contiguous.

    Returns:
        edges: int32 [E], pixel * 4 + direction; the directions are right, down, down right, down left.
        starts: int64 [buckets + 1]; the edges of weight w / 16 are `edges[starts[w]:starts[w + 1]]`.
    """
    height, width, channels = image.shape
    weights = np.empty((4, height, width), np.uint16)
    counts = np.zeros(_BUCKETS + 1, np.int64)
    row = np.empty(width, np.int32)
    for direction in range(4):
        dy = 0 if direction == 0 else 1
        left = 1 if direction == 3 else 0  # x of the first pixel that has this neighbour
        dx = (1, 0, 1, -1)[direction]
        first, last = left, width - max(dx, 0)
        for y in range(height - dy):
            squares = row[: max(last - first, 0)]
            squares[:] = 0
            here = image[y]
            there = image[y + dy]
            if channels == 3:
                for i in range(len(squares)):
                    d0 = np.int32(here[first + i, 0]) - np.int32(there[first + i + dx, 0])
                    d1 = np.int32(here[first + i, 1]) - np.int32(there[first + i + dx, 1])
                    d2 = np.int32(here[first + i, 2]) - np.int32(there[first + i + dx, 2])
                    squares[i] = d0 * d0 + d1 * d1 + d2 * d2
            else:
                for i in range(len(squares)):
                    for c in range(channels):
                        d = np.int32(here[first + i, c]) - np.int32(there[first + i + dx, c])
                        squares[i] += d * d
            out = weights[direction, y, first : first + len(squares)]
            for i in range(len(squares)):
                out[i] = np.uint16(np.sqrt(np.float32(squares[i])) * np.float32(WEIGHT_STEPS))
            for i in range(len(squares)):
                counts[out[i] + 1] += 1
    starts = counts
    for i in range(1, len(starts)):  # not np.cumsum, whose implementation takes Numba 0.2 s to import
        starts[i] += starts[i - 1]
    edges = np.empty(starts[-1], np.int32)
    fill = starts.copy()
    for direction in range(4):
        dy = 0 if direction == 0 else 1
        dx = (1, 0, 1, -1)[direction]
        first, last = (1 if direction == 3 else 0), width - max(dx, 0)
        for y in range(height - dy):
            base = y * width
            line = weights[direction, y]
            for x in range(first, last):
                w = line[x]
                edges[fill[w]] = (base + x) * 4 + direction
                fill[w] += 1
    return edges, starts


@kernel(inline="always")
def _find(parent: Any, node: Any) -> Any:
    up = parent[node]
    while up != node:
        parent[node] = parent[up]  # path halving
        node = parent[node]
        up = parent[node]
    return node


@kernel()
def segment(edges: Any, starts: Any, height: int, width: int, k: float, min_size: int, labels: Any) -> Any:
    """One segmentation.

    Args:
        edges, starts: from `sorted_edges`.
        k: scale of observation, in grey levels times pixels; larger values give larger regions.
        min_size: smaller components, in pixels, are merged with a neighbour.
        labels: int32 [H * W], output: regions numbered 0 .. R-1 in the order of their first pixel.

    Returns:
        pairs: int32 [P, 2], a < b: the neighbouring regions, each pair once, sorted.
    """
    pixels = height * width
    parent = np.arange(pixels).astype(np.int32)
    root = np.empty(pixels, _COMPONENT)
    scale = np.float32(k * WEIGHT_STEPS)
    for p in range(pixels):
        root[p].size = 1
        root[p].limit = scale
    offsets = np.array([1, width, width + 1, width - 1], np.int32)
    across = np.empty(_BLOCK, np.int32)
    rejected = np.empty(len(edges), np.int32)
    count = 0
    flatten_at = len(edges) // _FLATTENINGS
    for w in range(len(starts) - 1):
        if starts[w] >= flatten_at:
            flatten_at += len(edges) // _FLATTENINGS
            for p in range(pixels):
                parent[p] = parent[parent[p]]
        weight = np.float32(w)
        for begin in range(starts[w], starts[w + 1], _BLOCK):
            between = 0
            for i in range(begin, min(begin + _BLOCK, starts[w + 1])):
                edge = edges[i]
                p = edge >> 2
                across[between] = edge
                between += parent[p] != parent[p + offsets[edge & 3]]
            for i in range(between):
                edge = across[i]
                p = edge >> 2
                q = p + offsets[edge & 3]
                a, b = _find(parent, parent[p]), _find(parent, parent[q])
                parent[p], parent[q] = a, b
                if a == b:
                    continue
                if weight <= min(root[a].limit, root[b].limit):
                    if root[a].size < root[b].size:
                        a, b = b, a
                    parent[b] = a
                    root[a].size += root[b].size
                    root[a].limit = weight + scale / np.float32(root[a].size)
                else:
                    rejected[count] = edge
                    count += 1
    left = 0
    for i in range(count):
        edge = rejected[i]
        p = edge >> 2
        q = p + offsets[edge & 3]
        a, b = _find(parent, p), _find(parent, q)
        if a == b:
            continue
        if min(root[a].size, root[b].size) < min_size:
            if root[a].size < root[b].size:
                a, b = b, a
            parent[b] = a
            root[a].size += root[b].size
        else:
            rejected[left] = edge
            left += 1
    number = np.full(pixels, -1, np.int32)
    regions = 0
    for p in range(pixels):
        a = _find(parent, p)
        if number[a] < 0:
            number[a] = regions
            regions += 1
        labels[p] = number[a]
    return _touching(labels, rejected[:left], offsets, regions)


@kernel()
def _touching(labels: Any, edges: Any, offsets: Any, regions: int) -> Any:
    """The pairs of regions that edges connect: a set in an open-addressed table, then sorted."""
    slots = 64
    while slots < 16 * regions:  # a planar graph: about 3 pairs per region
        slots *= 2
    table = np.full(slots, -1, np.int64)
    count = 0
    for i in range(len(edges)):
        p = edges[i] >> 2
        a, b = labels[p], labels[p + offsets[edges[i] & 3]]
        if a == b:
            continue
        if a > b:
            a, b = b, a
        key = np.int64(a) * regions + b
        slot = (key * 0x9E3779B97F4A7C1) & (slots - 1)
        while table[slot] != -1 and table[slot] != key:
            slot = (slot + 1) & (slots - 1)
        if table[slot] == -1:
            table[slot] = key
            count += 1
    keys = np.empty(count, np.int64)
    count = 0
    for slot in range(slots):
        if table[slot] != -1:
            keys[count] = table[slot]
            count += 1
    keys.sort()
    pairs = np.empty((count, 2), np.int32)
    for i in range(count):
        pairs[i, 0] = keys[i] // regions
        pairs[i, 1] = keys[i] % regions
    return pairs
