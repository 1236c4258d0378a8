"""The description of regions that grouping uses: size, box, and histograms of colour and texture (section 3.2).

All scales k of a colour space are described in one pass over the pixels. Pixels that are in the same region at every
scale form an atom; histograms are counted per atom, and those of a region are the sums over its atoms.

Texture is the derivative of a Gaussian in eight directions. Central differences of an image blurred with sigma 0.8 are
derivatives of a Gaussian of sigma 1, as in the paper (variance 0.64 of the blur, 1/3 of the difference). The four
diagonal derivatives are (gx + gy) / sqrt 2 (steerable filters); opposite directions are the two signs of one number.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from frcnn_cli.system.jit import kernel

COLOUR_BINS = 25  # per channel
TEXTURE_BINS = 10  # per channel and direction
DIRECTIONS = 8
_STEP = 4.0  # grey levels per pixel in a bin of texture: the last bin holds 36 and more
_SIGNED = 2 * TEXTURE_BINS - 1  # both signs of a derivative share the bin of small values


@kernel()
def atoms(labels: Any, width: int) -> Any:
    """Pixels with the same label at every scale.

    Args:
        labels: int32 [S, P], the labels of S segmentations of P pixels.

    Returns:
        atom: int32 [P], 0 .. A-1 in the order of the first pixel.
        members: int32 [A, S], the region of each atom at each scale.
    """
    scales, pixels = labels.shape
    atom = np.empty(pixels, np.int32)
    first = np.empty(1024, np.int32)  # the first pixel of each atom
    slots = 4096
    table = np.full(slots, -1, np.int32)
    count = 0
    for p in range(pixels):
        if p > 0:
            same = True
            for s in range(scales):
                if labels[s, p] != labels[s, p - 1]:
                    same = False
                    break
            if same:
                atom[p] = atom[p - 1]
                continue
        if p >= width:
            same = True
            for s in range(scales):
                if labels[s, p] != labels[s, p - width]:
                    same = False
                    break
            if same:
                atom[p] = atom[p - width]
                continue
        slot = _hash(labels, p) & (slots - 1)
        found = -1
        while table[slot] >= 0:
            candidate = table[slot]
            same = True
            for s in range(scales):
                if labels[s, p] != labels[s, first[candidate]]:
                    same = False
                    break
            if same:
                found = candidate
                break
            slot = (slot + 1) & (slots - 1)
        if found < 0:
            found = count
            if count == len(first):
                grown = np.empty(2 * count, np.int32)
                grown[:count] = first
                first = grown
            first[count] = p
            table[slot] = count
            count += 1
            if 4 * count > slots:
                slots *= 4
                table = np.full(slots, -1, np.int32)
                for a in range(count):
                    slot = _hash(labels, first[a]) & (slots - 1)
                    while table[slot] >= 0:
                        slot = (slot + 1) & (slots - 1)
                    table[slot] = a
        atom[p] = found
    members = np.empty((count, scales), np.int32)
    for a in range(count):
        for s in range(scales):
            members[a, s] = labels[s, first[a]]
    return atom, members


@kernel(inline="always")
def _hash(labels: Any, p: int) -> Any:
    code = np.int64(0)
    for s in range(labels.shape[0]):
        code = (code ^ labels[s, p]) * 0x9E3779B97F4A7C1
    return code ^ (code >> 29)


@kernel()
def describe(image: Any, atom: Any, count: int) -> Any:
    """Size, box and histograms of each atom.

    Args:
        image: [H, W, C] uint8, blurred.
        atom: int32 [H * W], 0 .. count-1.

    Returns:
        sizes: int64 [A], pixels.
        boxes: int32 [A, 4], x1 y1 x2 y2, continuous.
        colours: int32 [A, C * 25].
        textures: int32 [A, C * 4 * 19]: per channel, the signed derivatives to the right, down, down right, down left.
    """
    height, width, channels = image.shape
    sizes = np.zeros(count, np.int64)
    boxes = np.empty((count, 4), np.int32)
    boxes[:, :2] = 1 << 30
    boxes[:, 2:] = 0
    colours = np.zeros((count, channels * COLOUR_BINS), np.int32)
    textures = np.zeros((count, channels * 4 * _SIGNED), np.int32)
    bins = np.empty((channels, 4, width), np.int16)
    straight = np.float32(0.5 / _STEP)  # a central difference spans two pixels
    diagonal = np.float32(0.5 / _STEP * np.sqrt(0.5))
    top = np.float32(TEXTURE_BINS - 1)
    for y in range(height):
        above = image[max(y - 1, 0)]
        below = image[min(y + 1, height - 1)]
        here = image[y]
        for c in range(channels):
            right, down, down_right, down_left = bins[c, 0], bins[c, 1], bins[c, 2], bins[c, 3]
            for x in range(width):
                x0, x1 = max(x - 1, 0), min(x + 1, width - 1)
                gx = np.float32(np.int32(here[x1, c]) - np.int32(here[x0, c]))
                gy = np.float32(np.int32(below[x, c]) - np.int32(above[x, c]))
                right[x] = np.int16(min(max(gx * straight, -top), top)) + (TEXTURE_BINS - 1)
                down[x] = np.int16(min(max(gy * straight, -top), top)) + (TEXTURE_BINS - 1)
                down_right[x] = np.int16(min(max((gx + gy) * diagonal, -top), top)) + (TEXTURE_BINS - 1)
                down_left[x] = np.int16(min(max((gy - gx) * diagonal, -top), top)) + (TEXTURE_BINS - 1)
        for x in range(width):
            a = atom[y * width + x]
            sizes[a] += 1
            boxes[a, 0] = min(boxes[a, 0], x)
            boxes[a, 1] = min(boxes[a, 1], y)
            boxes[a, 2] = max(boxes[a, 2], x + 1)
            boxes[a, 3] = max(boxes[a, 3], y + 1)
            colour = colours[a]
            texture = textures[a]
            for c in range(channels):
                colour[c * COLOUR_BINS + (np.int32(here[x, c]) * COLOUR_BINS >> 8)] += 1
                for d in range(4):
                    texture[(c * 4 + d) * _SIGNED + bins[c, d, x]] += 1
    return sizes, boxes, colours, textures


@kernel()
def gather(members: Any, sizes: Any, boxes: Any, colours: Any, textures: Any) -> Any:
    """The regions of one scale, as sums over their atoms.

    Args:
        members: int32 [A], the region of each atom.
        sizes, boxes, colours, textures: of the atoms, from `describe`.

    Returns:
        sizes: int64 [R]. boxes: int32 [R, 4].
        counts: int32 [R, C * 25 + C * 8 * 10], colours, then textures: ten bins per direction, from small to large.
    """
    colour_bins = colours.shape[1]
    groups = textures.shape[1] // _SIGNED
    regions = 0
    for i in range(len(members)):  # not members.max(), whose implementation takes Numba 0.2 s to import
        regions = max(regions, members[i] + 1)
    total = np.zeros(regions, np.int64)
    box = np.empty((regions, 4), np.int32)
    box[:, :2] = 1 << 30
    box[:, 2:] = 0
    counts = np.zeros((regions, colour_bins + groups * 2 * TEXTURE_BINS), np.int32)
    for a in range(len(members)):
        r = members[a]
        total[r] += sizes[a]
        for i in range(2):
            box[r, i] = min(box[r, i], boxes[a, i])
            box[r, i + 2] = max(box[r, i + 2], boxes[a, i + 2])
        for i in range(colour_bins):
            counts[r, i] += colours[a, i]
        for g in range(groups):
            signed = textures[a, g * _SIGNED : (g + 1) * _SIGNED]
            plus = counts[r, colour_bins + g * 2 * TEXTURE_BINS :]
            minus = plus[TEXTURE_BINS:]
            small = signed[TEXTURE_BINS - 1]
            for i in range(1, TEXTURE_BINS):
                plus[i] += signed[TEXTURE_BINS - 1 + i]
                minus[i] += signed[TEXTURE_BINS - 1 - i]
                plus[0] += signed[TEXTURE_BINS - 1 - i]
                minus[0] += signed[TEXTURE_BINS - 1 + i]
            plus[0] += small
            minus[0] += small
    return total, box, counts
