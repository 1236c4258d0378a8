"""Which RoIs of an image a mini-batch holds, and what each is to learn (section 2.3)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.annotations import GroundTruth
from frcnn_cli.boxes import Boxes, iou
from frcnn_cli.recipes.sections import Sampling


class Candidates(NamedTuple):
    """All RoIs that an image offers: its proposals and its objects' own boxes.

    boxes: float32 [N, 4]. overlap: float64 [N], the best IoU with an object. match: int64 [N], that object's index.
    """

    boxes: Boxes
    overlap: NDArray[np.float64]
    match: NDArray[np.int64]


class SampledRoIs(NamedTuple):
    """boxes: float32 [R, 4]. labels: int64 [R], 0 background, 1 .. K. matched: float32 [R, 4], each foreground RoI's
    object (the RoI itself for background)."""

    boxes: Boxes
    labels: NDArray[np.int64]
    matched: Boxes


def candidates(proposals: Boxes, truth: GroundTruth) -> Candidates:
    """Proposals and ground-truth boxes, each with the object that it overlaps most."""
    boxes = np.concatenate([proposals, truth.boxes]).astype(np.float32)
    if len(truth) == 0:
        return Candidates(boxes, np.zeros(len(boxes)), np.zeros(len(boxes), np.int64))
    overlaps = iou(boxes, truth.boxes)
    return Candidates(boxes, overlaps.max(axis=1), overlaps.argmax(axis=1))


def sample_rois(
    proposals: Boxes, truth: GroundTruth, count: int, config: Sampling, rng: np.random.Generator
) -> SampledRoIs:
    """Draws at most `count` RoIs of one image without replacement: first foreground, up to its share, then background.

    With too few candidates the sample is smaller; nothing is drawn twice.
    """
    pool = candidates(proposals, truth)
    low, high = config.background_iou
    foreground = np.flatnonzero(pool.overlap >= config.foreground_iou)
    background = np.flatnonzero((pool.overlap >= low) & (pool.overlap < min(high, config.foreground_iou)))
    wanted = min(round(config.foreground_fraction * count), len(foreground))
    foreground = rng.permutation(foreground)[:wanted]
    background = rng.permutation(background)[: count - wanted]
    chosen = np.concatenate([foreground, background])
    labels = np.zeros(len(chosen), np.int64)
    matched = pool.boxes[chosen].copy()
    if wanted:
        labels[:wanted] = truth.labels[pool.match[foreground]] + 1
        matched[:wanted] = truth.boxes[pool.match[foreground]]
    return SampledRoIs(pool.boxes[chosen], labels, matched)
