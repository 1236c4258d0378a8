"""Which boxes come first. Any cut to the top N rests on it, so it is a function of the image's content alone."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.boxes import Boxes, area


def content_seed(pixels: NDArray[np.uint8]) -> int:
    """A seed that is the same for the same pixels, whatever the file, machine or worker."""
    return int.from_bytes(hashlib.blake2b(pixels.tobytes(), digest_size=8).digest(), "little")


def lexicographic(boxes: NDArray[Any]) -> NDArray[np.int64]:
    """The order [N] that sorts boxes by x1, then y1, x2, y2: one order for one set."""
    return np.lexsort(boxes.T[::-1])


def by_size_and_chance(boxes: Boxes, seed: int) -> NDArray[np.int64]:
    """The paper's rank for a source that does not tell its hierarchy: an order [N], best first.

    Selective search ranks a box by its position in the hierarchy (the whole image is 1) times a random number, so that
    large regions tend to come first without crowding the top. Regions grow towards the root, so here the position is
    the place by falling area.
    """
    canonical = lexicographic(boxes)
    position = np.empty(len(boxes))
    position[np.argsort(-area(boxes[canonical]), kind="stable")] = np.arange(1, len(boxes) + 1)
    key = position * np.random.default_rng(seed).random(len(boxes))
    return canonical[np.argsort(key, kind="stable")]
