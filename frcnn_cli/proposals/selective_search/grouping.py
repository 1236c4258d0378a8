"""Hierarchical grouping of regions by similarity (section 3.1, algorithm 1), and the similarities (section 3.2).

The two most similar neighbours are merged until one region is left; ties go to the lower numbers. Histograms are stored
as multiples of 1 / 2**16 in float32: sums stay below 2**24, so they are exact in any order and at any vector width.

When a region with many neighbours grows (the background of a crowd), the similarity to each of them changes, but only
a little: by at most its drift, which follows from its histograms alone. So such a region keeps its neighbours in a heap
of its own, ordered by an upper bound, and a similarity is computed again only when its bound is the highest of all. The
regions are merged in the same order. With 7,000 regions on one background this takes a sixtieth of the time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from frcnn_cli.proposals.selective_search.heaps import ROUNDING, bound, meld, pop, push
from frcnn_cli.proposals.selective_search.neighbours import distinct_neighbours, join, link
from frcnn_cli.proposals.selective_search.regions import COLOUR_BINS, DIRECTIONS
from frcnn_cli.system.jit import kernel

UNIT = 1 << 16  # the sum of one channel's histogram
_MANY = 64  # neighbours: a region that has more keeps them in its own heap


@kernel(inline="always")
def _normalise(counts: Any, size: Any, out: Any) -> Any:
    factor = UNIT / np.float64(size)
    for i in range(len(counts)):
        out[i] = np.float32(np.int32(counts[i] * factor))


@kernel(fastmath={"reassoc", "nsz", "nnan"})
def _overlap(a: Any, b: Any) -> Any:
    total = np.float32(0)
    for i in range(len(a)):
        total += min(a[i], b[i])
    return total


@kernel(inline="always")
def _similarity(
    hist: Any, size: Any, box: Any, a: int, b: int, split: int, scale: Any, image_size: int, mix: Any
) -> Any:
    """The similarity of two regions. scale: what one unit of overlap in colour and in texture counts."""
    similarity = 0.0
    if mix[0]:
        similarity += np.float64(_overlap(hist[a, :split], hist[b, :split])) * scale[0]
    if mix[1]:
        similarity += np.float64(_overlap(hist[a, split:], hist[b, split:])) * scale[1]
    both = size[a] + size[b]
    if mix[2]:
        similarity += 1.0 - both / image_size
    if mix[3]:
        w = max(box[a, 2], box[b, 2]) - min(box[a, 0], box[b, 0])
        h = max(box[a, 3], box[b, 3]) - min(box[a, 1], box[b, 1])
        similarity += 1.0 - (np.int64(w) * h - both) / image_size
    return similarity


@kernel()
def _drift(hist: Any, old: int, new: int, split: int, scale: Any, added: int, image_size: int, mix: Any) -> Any:
    """By how much the similarity of a region to any neighbour can have risen when `old` grew to `new`.

    min(h', x) - min(h, x) is at most max(0, h' - h), summed over the bins. The size lowers the similarity by exactly
    added / image_size, and fill raises it by at most that.
    """
    colour = texture = 0.0
    for i in range(hist.shape[1]):
        rise = np.float64(max(hist[new, i] - hist[old, i], np.float32(0)))
        if i < split:
            colour += rise
        else:
            texture += rise
    drift = ROUNDING
    if mix[0]:
        drift += colour * scale[0]
    if mix[1]:
        drift += texture * scale[1]
    if mix[2]:
        drift -= added / image_size
    if mix[3]:
        drift += added / image_size
    return drift


@kernel()
def group(
    pairs: Any, sizes: Any, boxes: Any, counts: Any, channels: int, image_size: int, mix: Any, many: int = _MANY
) -> Any:
    """Groups the regions of a segmentation up to the whole image.

    Args:
        pairs: int32 [P, 2], the pairs of neighbours.
        sizes, boxes, counts: of the R regions, from `regions.gather`.
        channels: number of channels of the image, C.
        image_size: number of pixels of the image.
        mix: bool [4], whether colour, texture, size and fill are used.
        many: a region with more neighbours keeps them in its own heap; the result is the same for any number.

    Returns:
        boxes: int32 [M, 4], of the R regions and then of the merged regions, in the order of merging. M is 2R - 1,
        because the regions of an image are connected.
    """
    regions = len(sizes)
    most = max(2 * regions - 1, 1)
    size = np.empty(most, np.int64)
    box = np.empty((most, 4), np.int32)
    size[:regions] = sizes
    box[:regions] = boxes
    # Only the histograms that the mix uses are kept: columns begin .. end, colour up to `split`.
    colour_bins = channels * COLOUR_BINS
    begin = 0 if mix[0] else colour_bins
    end = counts.shape[1] if mix[1] else max(colour_bins, begin)
    split = colour_bins - begin
    scale = np.array([1.0 / (channels * UNIT), 1.0 / (channels * DIRECTIONS * UNIT)])
    count = np.empty((most, end - begin), np.int32)
    count[:regions] = counts[:, begin:end]
    hist = np.empty((most, end - begin), np.float32)
    for r in range(regions):
        _normalise(count[r], size[r], hist[r])

    merged = np.arange(most).astype(np.int32)
    # Two lists per region: all neighbours, and of crowded regions those that are crowded too.
    first = np.full((2, most), -1, np.int32)
    last = np.full((2, most), -1, np.int32)
    following = np.empty(4 * len(pairs) + 16, np.int32)
    neighbour = np.empty(len(following), np.int32)
    links = 0
    degree = np.zeros(most, np.int32)
    for t in range(len(pairs)):
        for side in range(2):
            a = pairs[t, side]
            links = link(first[0], last[0], following, neighbour, links, a, pairs[t, 1 - side])
            degree[a] += 1
    crowded = degree > many

    # Pairs to merge, or (with right = -1) crowded regions whose best pair is to be found; the highest key first.
    key = np.empty(8 * len(pairs) + 16, np.float64)
    left = np.empty(len(key), np.int32)
    right = np.empty(len(key), np.int32)
    heap = 0
    # The heaps of crowded regions: nodes (`own` is the root of each) with the similarity to a region and when it was
    # computed: for which number of the crowded region, and at which sum of its drifts.
    own = np.full(most, -1, np.int32)
    drifted = np.zeros(most, np.float64)
    value = np.empty((2, 1024), np.float64)  # similarity, and the sum of drifts
    node = np.empty((4, 1024), np.int32)  # region, crowded region, two children
    nodes = 0

    seen = np.full(most, -1, np.int32)
    near = np.empty(most, np.int32)
    made = regions
    for t in range(-1, most):  # t = -1: all pairs of neighbours; then one merge at a time
        if t < 0:
            found = len(pairs)
        else:
            while heap > 0:
                a, b = left[0], right[0]
                if b >= 0 and merged[a] == a and merged[b] == b:
                    break
                heap -= 1
                pop(key, left, right, heap)
                if b >= 0 or merged[a] != a:
                    continue
                # The best pair of a crowded region: bounds are replaced by similarities until the highest is one.
                while own[a] >= 0:
                    top = own[a]
                    n = node[0, top]
                    below = meld(value, node, node[2, top], node[3, top])
                    if merged[n] != n:
                        own[a] = below
                    elif node[1, top] == a:
                        push(key, left, right, heap, value[0, top], min(n, a), max(n, a))
                        heap += 1
                        node[2, top], node[3, top] = below, -1
                        break
                    else:
                        value[0, top] = _similarity(hist, size, box, n, a, split, scale, image_size, mix)
                        value[1, top] = drifted[a]
                        node[1, top], node[2, top], node[3, top] = a, -1, -1
                        own[a] = meld(value, node, below, top)
            if heap == 0:
                return box[:made]
            a, b = left[0], right[0]
            size[made] = size[a] + size[b]
            for i in range(2):
                box[made, i] = min(box[a, i], box[b, i])
                box[made, i + 2] = max(box[a, i + 2], box[b, i + 2])
            for i in range(end - begin):
                count[made, i] = count[a, i] + count[b, i]
            _normalise(count[made], size[made], hist[made])
            merged[a] = merged[b] = made
            if crowded[b] and (not crowded[a] or size[b] > size[a]):
                a, b = b, a
            found = 0
            seen[made] = made
            if crowded[a]:  # it keeps its heap; only the neighbours of the other are new to it
                crowded[made] = True
                drifted[made] = drifted[a] + _drift(hist, a, made, split, scale, size[b], image_size, mix)
                own[made] = own[a]
                found = distinct_neighbours(merged, first[1], last[1], following, neighbour, a, seen, near, found, made)
                found = distinct_neighbours(merged, first[1], last[1], following, neighbour, b, seen, near, found, made)
            else:
                found = distinct_neighbours(merged, first[0], last[0], following, neighbour, a, seen, near, found, made)
            found = distinct_neighbours(merged, first[0], last[0], following, neighbour, b, seen, near, found, made)
            crowded[made] = crowded[a] or found > many
            join(first[0], last[0], following, made, a, b)
            if crowded[a]:
                join(first[1], last[1], following, made, a, b)

        if links + 2 * found > len(following):
            following = _grown(following, 2 * (links + 2 * found))
            neighbour = _grown(neighbour, len(following))
        if heap + 2 * found + 1 > len(key):
            key = _grown(key, 2 * (heap + 2 * found + 1))
            left = _grown(left, len(key))
            right = _grown(right, len(key))
        if nodes + found > node.shape[1]:
            value = _wider(value, 2 * (nodes + found))
            node = _wider(node, 2 * (nodes + found))
        for i in range(found):
            x, y = (pairs[i, 0], pairs[i, 1]) if t < 0 else (near[i], made)
            similarity = _similarity(hist, size, box, x, y, split, scale, image_size, mix)
            if crowded[x] == crowded[y]:
                push(key, left, right, heap, similarity, x, y)
                heap += 1
                if crowded[x]:
                    links = link(first[1], last[1], following, neighbour, links, x, y)
                    links = link(first[1], last[1], following, neighbour, links, y, x)
            else:
                one, other = (x, y) if crowded[x] else (y, x)
                value[0, nodes], value[1, nodes] = similarity, drifted[one]
                node[0, nodes], node[1, nodes], node[2, nodes], node[3, nodes] = other, one, -1, -1
                own[one] = meld(value, node, own[one], nodes)
                nodes += 1
            if t >= 0 and crowded[x] and own[x] >= 0:  # what it was merged from may have been its best pair
                push(key, left, right, heap, bound(value, own[x], drifted[x]), x, -1)
                heap += 1
        if t < 0:
            for x in range(regions):
                if own[x] >= 0:
                    if heap == len(key):
                        key = _grown(key, 2 * heap)
                        left = _grown(left, len(key))
                        right = _grown(right, len(key))
                    push(key, left, right, heap, bound(value, own[x], drifted[x]), x, -1)
                    heap += 1
        else:
            if own[made] >= 0:
                push(key, left, right, heap, bound(value, own[made], drifted[made]), made, -1)
                heap += 1
            made += 1
    return box[:made]


@kernel()
def _grown(array: Any, length: int) -> Any:
    bigger = np.empty(length, array.dtype)
    bigger[: len(array)] = array
    return bigger


@kernel()
def _wider(array: Any, length: int) -> Any:
    bigger = np.empty((array.shape[0], length), array.dtype)
    bigger[:, : array.shape[1]] = array
    return bigger
