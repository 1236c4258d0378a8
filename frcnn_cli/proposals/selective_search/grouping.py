"""Hierarchical grouping of regions by similarity (section 3.1, algorithm 1), and the similarities (section 3.2).

The two most similar neighbours are joined until one region is left; ties go to the lower numbers. Histograms are kept
as whole numbers of 1 / 2**16 in float32: sums stay below 2**24, so they are exact in any order, at any vector width.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from frcnn_cli.jit import kernel
from frcnn_cli.proposals.selective_search.regions import COLOUR_BINS, DIRECTIONS

UNIT = 1 << 16  # the sum of one channel's histogram


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


@kernel()
def group(pairs: Any, sizes: Any, boxes: Any, counts: Any, channels: int, image_size: int, mix: Any) -> Any:
    """Groups the regions of a segmentation up to the whole image.

    Args:
        pairs: int32 [P, 2], the neighbours.
        sizes, boxes, counts: of the R regions, as `regions.gather` gives them.
        channels: of the image, C.
        image_size: its pixels.
        mix: bool [4], whether colour, texture, size and fill count.

    Returns:
        boxes: int32 [M, 4], of the R regions and then of those made from them, in the order of making. M is 2R - 1
        where all regions hang together.
    """
    regions = len(sizes)
    colour_bins = channels * COLOUR_BINS
    most = max(2 * regions - 1, 1)
    size = np.empty(most, np.int64)
    box = np.empty((most, 4), np.int32)
    size[:regions] = sizes
    box[:regions] = boxes
    use_colour, use_texture, use_size, use_fill = mix[0], mix[1], mix[2], mix[3]
    begin = 0 if use_colour else colour_bins
    end = counts.shape[1] if use_texture else colour_bins
    if not use_colour and not use_texture:
        end = begin
    split = colour_bins - begin
    count = np.empty((most, end - begin), np.int32)
    count[:regions] = counts[:, begin:end]
    hist = np.empty((most, end - begin), np.float32)
    for r in range(regions):
        _normalise(count[r], size[r], hist[r])
    colour_scale = 1.0 / (channels * UNIT)
    texture_scale = 1.0 / (channels * DIRECTIONS * UNIT)

    # Neighbours: a linked list a region; a dead region stays in its neighbours' lists and is passed over.
    room = 8 * len(pairs) + 16
    head = np.full(most, -1, np.int32)
    following = np.empty(room, np.int32)
    neighbour = np.empty(room, np.int32)
    links = 0
    # A heap of (similarity, a, b), the most similar first; entries of dead regions are passed over.
    key = np.empty(room, np.float64)
    left = np.empty(room, np.int32)
    right = np.empty(room, np.int32)
    heap = 0
    alive = np.zeros(most, np.bool_)
    alive[:regions] = True
    seen = np.full(most, -1, np.int32)
    near = np.empty(most, np.int32)

    made = regions
    step = 0  # first all pairs, then the neighbours of each new region
    a = np.int32(0)
    b = np.int32(0)
    while True:
        todo = len(pairs)
        if step > 0:
            # take the most similar pair that is alive
            found = False
            while heap > 0 and not found:
                a, b = left[0], right[0]
                heap -= 1
                k0, l0, r0 = key[heap], left[heap], right[heap]
                i = 0
                while True:
                    child = 2 * i + 1
                    if child >= heap:
                        break
                    other = child + 1
                    if other < heap and _before(
                        key[other], left[other], right[other], key[child], left[child], right[child]
                    ):
                        child = other
                    if _before(k0, l0, r0, key[child], left[child], right[child]):
                        break
                    key[i], left[i], right[i] = key[child], left[child], right[child]
                    i = child
                key[i], left[i], right[i] = k0, l0, r0
                found = alive[a] and alive[b]
            if not found:
                break
            # join them
            alive[a] = False
            alive[b] = False
            size[made] = size[a] + size[b]
            for i in range(2):
                box[made, i] = min(box[a, i], box[b, i])
                box[made, i + 2] = max(box[a, i + 2], box[b, i + 2])
            for i in range(end - begin):
                count[made, i] = count[a, i] + count[b, i]
            _normalise(count[made], size[made], hist[made])
            alive[made] = True
            todo = 0
            for side in (a, b):
                link = head[side]
                while link >= 0:
                    n = neighbour[link]
                    if alive[n] and seen[n] != made:
                        seen[n] = made
                        near[todo] = n
                        todo += 1
                    link = following[link]
        if links + 2 * todo > len(following):
            bigger = 2 * (links + 2 * todo)
            following = _grown(following, bigger)
            neighbour = _grown(neighbour, bigger)
        if heap + todo > len(key):
            bigger = 2 * (heap + todo)
            key = _grown(key, bigger)
            left = _grown(left, bigger)
            right = _grown(right, bigger)
        for t in range(todo):
            if step == 0:
                a, b = pairs[t, 0], pairs[t, 1]
            else:
                a, b = near[t], np.int32(made)
            following[links] = head[a]
            neighbour[links] = b
            head[a] = links
            following[links + 1] = head[b]
            neighbour[links + 1] = a
            head[b] = links + 1
            links += 2
            similarity = 0.0
            if use_colour:
                similarity += np.float64(_overlap(hist[a, :split], hist[b, :split])) * colour_scale
            if use_texture:
                similarity += np.float64(_overlap(hist[a, split:], hist[b, split:])) * texture_scale
            both = size[a] + size[b]
            if use_size:
                similarity += 1.0 - both / image_size
            if use_fill:
                w = max(box[a, 2], box[b, 2]) - min(box[a, 0], box[b, 0])
                h = max(box[a, 3], box[b, 3]) - min(box[a, 1], box[b, 1])
                similarity += 1.0 - (np.int64(w) * h - both) / image_size
            i = heap
            heap += 1
            while i > 0:
                up = (i - 1) >> 1
                if not _before(similarity, a, b, key[up], left[up], right[up]):
                    break
                key[i], left[i], right[i] = key[up], left[up], right[up]
                i = up
            key[i], left[i], right[i] = similarity, a, b
        if step > 0:
            made += 1
        step += 1
    return box[:made]


@kernel(inline="always")
def _before(key: Any, left: Any, right: Any, other_key: Any, other_left: Any, other_right: Any) -> Any:
    """Whether one pair is joined before another: more similar, then lower numbers."""
    if key != other_key:
        return key > other_key
    if left != other_left:
        return left < other_left
    return right < other_right


@kernel()
def _grown(array: Any, length: int) -> Any:
    bigger = np.empty(length, array.dtype)
    bigger[: len(array)] = array
    return bigger
