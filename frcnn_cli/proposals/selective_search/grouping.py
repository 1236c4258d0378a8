"""Hierarchical grouping of regions by similarity (section 3.1, algorithm 1), and the similarities (section 3.2).

The two most similar neighbours are merged until one region is left; ties go to the lower numbers. Histograms are stored
as multiples of 1 / 2**16 in float32: sums stay below 2**24, so they are exact in any order and at any vector width.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from frcnn_cli.proposals.selective_search.regions import COLOUR_BINS, DIRECTIONS
from frcnn_cli.system.jit import kernel

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
        pairs: int32 [P, 2], the pairs of neighbours.
        sizes, boxes, counts: of the R regions, from `regions.gather`.
        channels: number of channels of the image, C.
        image_size: number of pixels of the image.
        mix: bool [4], whether colour, texture, size and fill are used.

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
    count = np.empty((most, end - begin), np.int32)
    count[:regions] = counts[:, begin:end]
    hist = np.empty((most, end - begin), np.float32)
    for r in range(regions):
        _normalise(count[r], size[r], hist[r])

    # Neighbours are linked lists; merged regions stay in the lists and in the heap, and are skipped.
    room = 8 * len(pairs) + 16
    head = np.full(most, -1, np.int32)
    following = np.empty(room, np.int32)
    neighbour = np.empty(room, np.int32)
    links = 0
    key = np.empty(room, np.float64)
    left = np.empty(room, np.int32)
    right = np.empty(room, np.int32)
    heap = 0
    alive = np.zeros(most, np.bool_)
    alive[:regions] = True
    seen = np.full(most, -1, np.int32)
    near = np.empty(most, np.int32)

    made = regions
    fresh = pairs  # pairs whose similarity is computed next: first all, then those of each merged region
    while True:
        needed = links + 2 * len(fresh)
        if needed > len(following):
            following = _grown(following, 2 * needed)
            neighbour = _grown(neighbour, 2 * needed)
        if heap + len(fresh) > len(key):
            key = _grown(key, 2 * (heap + len(fresh)))
            left = _grown(left, len(key))
            right = _grown(right, len(key))
        for t in range(len(fresh)):
            a, b = fresh[t, 0], fresh[t, 1]
            following[links], neighbour[links], head[a] = head[a], b, links
            following[links + 1], neighbour[links + 1], head[b] = head[b], a, links + 1
            links += 2
            similarity = 0.0
            if mix[0]:
                similarity += np.float64(_overlap(hist[a, :split], hist[b, :split])) * (1.0 / (channels * UNIT))
            if mix[1]:
                overlap = np.float64(_overlap(hist[a, split:], hist[b, split:]))
                similarity += overlap * (1.0 / (channels * DIRECTIONS * UNIT))
            both = size[a] + size[b]
            if mix[2]:
                similarity += 1.0 - both / image_size
            if mix[3]:
                w = max(box[a, 2], box[b, 2]) - min(box[a, 0], box[b, 0])
                h = max(box[a, 3], box[b, 3]) - min(box[a, 1], box[b, 1])
                similarity += 1.0 - (np.int64(w) * h - both) / image_size
            _push(key, left, right, heap, similarity, a, b)
            heap += 1

        while heap > 0 and not (alive[left[0]] and alive[right[0]]):
            heap -= 1
            _pop(key, left, right, heap)
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
        alive[a] = alive[b] = False
        alive[made] = True
        found = 0
        for side in (a, b):
            link = head[side]
            while link >= 0:
                n = neighbour[link]
                if alive[n] and seen[n] != made:
                    seen[n] = made
                    near[found] = n
                    found += 1
                link = following[link]
        fresh = np.empty((found, 2), np.int32)
        for t in range(found):
            fresh[t, 0] = near[t]
            fresh[t, 1] = made
        made += 1


@kernel(inline="always")
def _before(key: Any, left: Any, right: Any, other_key: Any, other_left: Any, other_right: Any) -> Any:
    """Whether one pair is merged before another: more similar first, then lower numbers."""
    if key != other_key:
        return key > other_key
    if left != other_left:
        return left < other_left
    return right < other_right


@kernel()
def _push(key: Any, left: Any, right: Any, heap: int, similarity: float, a: int, b: int) -> None:
    """Adds a pair (similarity, a, b) to a heap that holds `heap` pairs; the pair to merge next is on top."""
    i = heap
    while i > 0:
        up = (i - 1) >> 1
        if not _before(similarity, a, b, key[up], left[up], right[up]):
            break
        key[i], left[i], right[i] = key[up], left[up], right[up]
        i = up
    key[i], left[i], right[i] = similarity, a, b


@kernel()
def _pop(key: Any, left: Any, right: Any, heap: int) -> None:
    """Removes the top pair; `heap` pairs remain, and the one at index `heap` moves to its new place."""
    k, a, b = key[heap], left[heap], right[heap]
    i = 0
    while True:
        child = 2 * i + 1
        if child >= heap:
            break
        other = child + 1
        if other < heap and _before(key[other], left[other], right[other], key[child], left[child], right[child]):
            child = other
        if _before(k, a, b, key[child], left[child], right[child]):
            break
        key[i], left[i], right[i] = key[child], left[child], right[child]
        i = child
    key[i], left[i], right[i] = k, a, b


@kernel()
def _grown(array: Any, length: int) -> Any:
    bigger = np.empty(length, array.dtype)
    bigger[: len(array)] = array
    return bigger
