"""Which RoIs of an image a mini-batch holds, and what each is trained to predict (section 2.3).

Glossary: N candidates, G objects, R sampled RoIs, K classes; deltas t = (tx, ty, tw, th) as in `roi.box_coder`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.annotations import GroundTruth
from frcnn_cli.core.boxes import Boxes, best_overlap
from frcnn_cli.recipes.sections import Sampling
from frcnn_cli.roi.box_coder import encode


class Candidates(NamedTuple):
    """All RoIs that may be sampled from an image: its proposals and the boxes of its objects.

    boxes: float32 [N, 4]. overlap: float64 [N], the largest IoU with an object. match: int64 [N], the index of that
    object.
    """

    boxes: Boxes
    overlap: NDArray[np.float64]
    match: NDArray[np.int64]


class SampledRoIs(NamedTuple):
    """boxes: float32 [R, 4]. labels: int64 [R], 0 background, 1 .. K. matched: float32 [R, 4], the box of the object
    that each foreground RoI matches (for background, the RoI itself)."""

    boxes: Boxes
    labels: NDArray[np.int64]
    matched: Boxes


class TargetStatistics(NamedTuple):
    """mean, std: float32 [K+1, 4], of the deltas of each class (0, the background, has 0 and 1)."""

    mean: NDArray[np.float32]
    std: NDArray[np.float32]


class RoITargets(NamedTuple):
    """Samples RoIs and computes their regression targets. less: as in `roi.box_coder.encode`."""

    config: Sampling
    statistics: TargetStatistics
    less: int = 0

    def sample(self, proposals: Boxes, truth: GroundTruth, rng: np.random.Generator) -> SampledRoIs:
        """The RoIs of one image of a mini-batch.

        Args:
            proposals: float32 [P, 4]. truth: the objects of the image.
        """
        count = self.config.rois // self.config.images
        return sample_rois(proposals, truth, count, self.config, rng)

    def targets(self, boxes: Boxes, matched: Boxes, labels: NDArray[np.int64]) -> NDArray[np.float32]:
        """The normalised deltas from RoIs to the objects that they match: float32 [R, 4]. Those of background RoIs are
        not used."""
        mean, std = self.statistics
        targets: NDArray[np.float32] = (encode(boxes, matched, self.less) - mean[labels]) / std[labels]
        return targets


def candidates(proposals: Boxes, truth: GroundTruth) -> Candidates:
    """Proposals and boxes of objects, each with the object that it overlaps most."""
    boxes = np.concatenate([proposals, truth.boxes]).astype(np.float32)
    return Candidates(boxes, *best_overlap(boxes, truth.boxes))


def sample_rois(
    proposals: Boxes, truth: GroundTruth, count: int, config: Sampling, rng: np.random.Generator
) -> SampledRoIs:
    """At most `count` RoIs of one image, drawn without replacement: first foreground, up to its share, then background.

    With too few candidates the sample is smaller; none is drawn twice.
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
