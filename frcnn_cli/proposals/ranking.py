"""The order of boxes. Truncation to the best N depends on it, so it is determined by the content of the image alone."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.boxes import Boxes, area


def content_seed(pixels: NDArray[np.uint8]) -> int:
    """A random seed that is equal for equal pixels, whatever the file, machine or worker."""
    return int.from_bytes(hashlib.blake2b(pixels.tobytes(), digest_size=8).digest(), "little")


def lexicographic(boxes: NDArray[Any]) -> NDArray[np.int64]:
    """The order [N] that sorts boxes by x1, then y1, x2, y2: the same for the same set of boxes."""
    return np.lexsort(boxes.T[::-1])


def by_size_and_chance(boxes: Boxes, seed: int) -> NDArray[np.int64]:
    """The paper's ranking for a source that does not provide its hierarchy: an order [N], best first.

    Selective search ranks a box by its position in the hierarchy (the whole image is 1) times a random number, so that
    large regions tend to come first without filling the top ranks. Regions grow towards the root, so here the position
    is the rank by descending area.
    """
    canonical = lexicographic(boxes)
    position = np.empty(len(boxes))
    position[np.argsort(-area(boxes[canonical]), kind="stable")] = np.arange(1, len(boxes) + 1)
    key = position * np.random.default_rng(seed).random(len(boxes))
    return canonical[np.argsort(key, kind="stable")]
