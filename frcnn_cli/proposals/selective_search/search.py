"""Selective search of one image: every colour space, scale and mix of similarities; boxes ranked, without duplicates.

One pass per colour space:

    image ─▶ sorted edges ─▶ labels at every scale k ─▶ atoms ─▶ histograms ─▶ a hierarchy per scale and mix ─▶ boxes
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.boxes import Boxes
from frcnn_cli.proposals.distinct import distinct
from frcnn_cli.proposals.selective_search.agreement import agreed_first
from frcnn_cli.proposals.selective_search.colour import blurred
from frcnn_cli.proposals.selective_search.grouping import group
from frcnn_cli.proposals.selective_search.regions import atoms, describe, gather
from frcnn_cli.proposals.selective_search.segmentation import segment, sorted_edges

SIMILARITIES = "CTSF"  # colour, texture, size, fill: the letters of a mix


def selective_search(
    pixels: NDArray[np.uint8],
    colours: Sequence[str],
    scales: Sequence[float],
    mixes: Sequence[str],
    sigma: float,
    min_region: int | None,
    max_iou: float,
    agreed: int,
    seed: int,
) -> Boxes:
    """The boxes of all regions of all hierarchies.

    Args:
        pixels: RGB, [H, W, 3] uint8.
        colours: names in `colour.SPACES`.
        scales: the k of each segmentation.
        mixes: the similarities that each grouping adds up, letters of `SIMILARITIES`.
        sigma: standard deviation of the blur before segmentation, in pixels.
        min_region: smaller regions, in pixels, are merged with a neighbour; None: k, as in the authors' code.
        max_iou: boxes that overlap a better one by more than this are dropped; 1: only duplicates, as in the paper.
        agreed: number of boxes that are ranked first because most hierarchies agree on them; 0: none, as in the paper.
        seed: random seed of the ranking.

    Returns:
        float32 [N, 4], x1 y1 x2 y2, best first. After the `agreed` boxes, the rank of a region is its position in its
        hierarchy, counted from the whole image, times a random number in [0, 1) (section 4.1 of the paper), so that
        large regions tend to come first without filling the top ranks. A box that is found several times keeps its
        best rank.
    """
    height, width = pixels.shape[:2]
    random = np.random.default_rng(seed)
    boxes, ranks = [], []
    for space in colours:
        image = blurred(pixels, space, sigma)
        for pairs, described in _segmentations(image, scales, min_region):
            for mix in mixes:
                use = np.array([letter in mix for letter in SIMILARITIES])
                made = group(pairs, *described, image.shape[2], height * width, use)
                boxes.append(made)
                ranks.append(np.arange(len(made), 0, -1) * random.random(len(made)))
    best_first = np.argsort(np.concatenate(ranks), kind="stable")
    hierarchy = np.repeat(np.arange(len(boxes)), [len(made) for made in boxes])
    found, hierarchies = _unique_boxes(np.concatenate(boxes)[best_first], hierarchy[best_first], height, width)
    found = found[agreed_first(found, hierarchies, agreed)]
    kept: Boxes = found[distinct(found, max_iou, len(found))].astype(np.float32)
    return kept


def _segmentations(
    image: NDArray[np.uint8], scales: Sequence[float], min_region: int | None
) -> list[tuple[NDArray[np.int32], tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]]]:
    """For each scale, the pairs of neighbours, and the sizes, boxes and histograms of the regions."""
    height, width = image.shape[:2]
    edges, starts = sorted_edges(image)
    labels = np.empty((len(scales), height * width), np.int32)
    pairs = []
    for i, k in enumerate(scales):
        smallest = int(k) if min_region is None else min_region
        pairs.append(segment(edges, starts, height, width, float(k), smallest, labels[i]))
    atom, members = atoms(labels, width)
    described = describe(image, atom, len(members))
    return [(pairs[i], gather(members[:, i], *described)) for i in range(len(scales))]


def _unique_boxes(
    boxes: NDArray[np.int32], hierarchy: NDArray[np.int64], height: int, width: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The boxes without duplicates, each at its first position; and in how many hierarchies each is."""
    corners = (width + 1) * (height + 1)  # at most 3e9, so that a box is one number of 63 bits
    x1, y1, x2, y2 = boxes.T.astype(np.int64)
    code = (y1 * (width + 1) + x1) * corners + y2 * (width + 1) + x2
    _, first, which = np.unique(code, return_index=True, return_inverse=True)
    once = np.unique(which.astype(np.int64) * (hierarchy.max(initial=0) + 1) + hierarchy)
    hierarchies = np.bincount(once // (hierarchy.max(initial=0) + 1), minlength=len(first))
    order = np.argsort(first)
    return boxes[first[order]], hierarchies[order]
