"""Selective search, slow and obvious: sets of pixels and plain loops, by the papers' definitions."""

from __future__ import annotations

import math

import numpy as np


def edges_of(image):
    """(weight in 1/16 grey levels, direction, p, q) of all pairs of neighbours, lightest first."""
    height, width, _ = image.shape
    edges = []
    for direction, (dx, dy) in enumerate([(1, 0), (0, 1), (1, 1), (-1, 1)]):
        for y in range(height):
            for x in range(width):
                if 0 <= x + dx < width and y + dy < height:
                    difference = image[y, x].astype(int) - image[y + dy, x + dx].astype(int)
                    weight = int(np.float32(math.sqrt((difference**2).sum())) * np.float32(16))
                    edges.append((weight, direction, y * width + x, (y + dy) * width + x + dx))
    return sorted(edges)


def segment(image, k, min_size):
    """Felzenszwalb and Huttenlocher, algorithm 1: labels [H * W] and the set of touching pairs."""
    height, width, _ = image.shape
    component = {p: {p} for p in range(height * width)}
    inside = dict.fromkeys(component, 0)  # Int(C), under the smallest pixel of C

    def name(p):
        return min(component[p])

    def join(p, q):
        both = component[p] | component[q]
        for pixel in both:
            component[pixel] = both

    edges = edges_of(image)
    for weight, _, p, q in edges:
        if component[p] is component[q]:
            continue
        limits = [np.float32(inside[name(r)]) + np.float32(16 * k) / np.float32(len(component[r])) for r in (p, q)]
        if weight <= min(limits):
            join(p, q)
            inside[name(p)] = weight
    for _, _, p, q in edges:
        if component[p] is not component[q] and min(len(component[p]), len(component[q])) < min_size:
            join(p, q)
    names = sorted({name(p) for p in range(height * width)})
    labels = np.array([names.index(name(p)) for p in range(height * width)])
    pairs = {tuple(sorted((labels[p], labels[q]))) for _, _, p, q in edges if labels[p] != labels[q]}
    return labels, sorted(pairs)


def histograms(image, pixels):
    """Counts of colour and texture of a set of pixels, [C * 25] and [C * 8 * 10]."""
    height, width, channels = image.shape
    colour = np.zeros((channels, 25), int)
    texture = np.zeros((channels, 8, 10), int)
    half = np.float32(0.125)
    slanted = np.float32(0.125 * np.sqrt(0.5))
    for p in pixels:
        y, x = divmod(p, width)
        for c in range(channels):
            colour[c, int(image[y, x, c]) * 25 // 256] += 1
            gx = int(image[y, min(x + 1, width - 1), c]) - int(image[y, max(x - 1, 0), c])
            gy = int(image[min(y + 1, height - 1), x, c]) - int(image[max(y - 1, 0), x, c])
            derivatives = (gx * half, gy * half, (gx + gy) * slanted, (gy - gx) * slanted)
            for d, value in enumerate(derivatives):
                for sign in (0, 1):  # a direction and the opposite one
                    bin_ = min(int(max(-value if sign else value, 0)), 9)
                    texture[c, 2 * d + sign, bin_] += 1
    return colour.ravel(), texture.ravel()


class Region:
    """A set of pixels with all that similarity asks for, counted anew from the pixels."""

    def __init__(self, image, pixels):
        width = image.shape[1]
        self.pixels = frozenset(pixels)
        ys, xs = np.divmod(np.array(sorted(self.pixels)), width)
        self.box = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        factor = 65536 / np.float64(len(self.pixels))
        self.colour, self.texture = (np.floor(part * factor) for part in histograms(image, self.pixels))


def similarity(a, b, image, mix):
    """Section 3.2: the sum of the measures in `mix`, letters of CTSF."""
    height, width, channels = image.shape
    both = len(a.pixels) + len(b.pixels)
    total = 0.0
    if "C" in mix:
        total += np.minimum(a.colour, b.colour).sum() * (1.0 / (channels * 65536))
    if "T" in mix:
        total += np.minimum(a.texture, b.texture).sum() * (1.0 / (channels * 8 * 65536))
    if "S" in mix:
        total += 1.0 - both / (height * width)
    if "F" in mix:
        w = max(a.box[2], b.box[2]) - min(a.box[0], b.box[0])
        h = max(a.box[3], b.box[3]) - min(a.box[1], b.box[1])
        total += 1.0 - (int(w) * int(h) - both) / (height * width)
    return total


def group(image, labels, pairs, mix):
    """Algorithm 1 of selective search: the boxes of all regions in the order of making."""
    regions = [Region(image, np.flatnonzero(labels == r)) for r in range(labels.max() + 1)]
    open_pairs = {pair: similarity(regions[pair[0]], regions[pair[1]], image, mix) for pair in pairs}
    while open_pairs:
        a, b = min(open_pairs, key=lambda pair: (-open_pairs[pair], pair))
        new = len(regions)
        regions.append(Region(image, regions[a].pixels | regions[b].pixels))
        neighbours = {other for pair in open_pairs for other in pair if {a, b} & set(pair)} - {a, b}
        open_pairs = {pair: value for pair, value in open_pairs.items() if not {a, b} & set(pair)}
        for n in neighbours:
            open_pairs[n, new] = similarity(regions[n], regions[new], image, mix)
    return [region.box for region in regions]
