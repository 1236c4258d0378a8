"""Confidence intervals of mAP by bootstrap over the images of the set.

Images are drawn with replacement, as many as there are, many times; the distribution of the mAPs estimates the
uncertainty. Two detectors are compared on the same draws, so that a difficult image affects both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.progress import SILENT, Progress
from frcnn_cli.evaluation.matching import Matches
from frcnn_cli.evaluation.voc import Metric, Result, weighted_mean_ap

DRAWS = 1000
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """The middle 95% of the draws (a percentile bootstrap interval)."""

    low: float
    high: float


class Comparison(NamedTuple):
    """Two detectors on the same draws.

    difference: mAP of the first minus that of the second. interval: of the difference.
    better: fraction of the draws in which the first is better (a tie counts half).
    p: how probable a difference of this size is if neither is better, two-sided, corrected for the number of
        comparisons if there are several (`compare_all`).
    """

    difference: float
    interval: Interval
    better: float
    p: float

    @property
    def verdict(self) -> str:
        """ "first", "second", or "neither" if p is above 0.05."""
        if not self.p <= 1 - CONFIDENCE:
            return "neither"
        return "first" if self.difference > 0 else "second"


def draws(images: int, count: int = DRAWS, seed: int = 0) -> NDArray[np.float64]:
    """float64 [count, images]: how often each image is drawn."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(images, np.full(images, 1 / images), size=count).astype(np.float64)


def interval(values: NDArray[np.float64]) -> Interval:
    """The interval of the finite values; a draw without any object has none."""
    known = values[np.isfinite(values)]
    if not len(known):
        return Interval(float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


def mean_aps(
    matches: Matches, metric: Metric, weights: NDArray[np.float64], progress: Progress = SILENT
) -> NDArray[np.float64]:
    """The mAP of each draw. weights: float64 [draws, images] from `draws`."""
    found = np.empty(len(weights))
    with progress.task("bootstrap", len(weights), "draws") as bar:
        for i, weight in enumerate(weights):
            found[i] = weighted_mean_ap(matches, metric, weight)
            bar.advance()
    return found


def mean_aps_of_all(
    matches: Sequence[Matches], metric: Metric, count: int = DRAWS, progress: Progress = SILENT, seed: int = 0
) -> list[NDArray[np.float64]]:
    """The mAPs of several detectors over the same `count` draws, which are made 500 at a time to save memory."""
    images = len(matches[0].keys)
    rng = np.random.default_rng(seed)
    found = np.empty((len(matches), count))
    with progress.task("bootstrap", count, "draws") as bar:
        for start in range(0, count, 500):
            weights = rng.multinomial(images, np.full(images, 1 / images), size=min(500, count - start)).astype(float)
            for i, weight in enumerate(weights, start):
                found[:, i] = [weighted_mean_ap(one, metric, weight) for one in matches]
                bar.advance()
    return list(found)


def confidence_interval(result: Result, progress: Progress = SILENT) -> Interval:
    """The 95% bootstrap interval of the mAP of a result."""
    return interval(mean_aps(result.matches, result.metric, draws(len(result.matches.keys)), progress))


def compare(first: NDArray[np.float64], second: NDArray[np.float64], difference: float) -> Comparison:
    """Compares the mAPs of two detectors over the same draws.

    Args:
        difference: mAP of the first minus that of the second, over all images.
    """
    apart = first - second
    apart = apart[np.isfinite(apart)]
    ahead = float(np.mean(apart > 0) + 0.5 * np.mean(apart == 0)) if len(apart) else float("nan")
    against = min(int((apart <= 0).sum()), int((apart >= 0).sum()))
    p = min(1.0, 2 * (1 + against) / (1 + len(apart)))  # the sample itself counts as a draw: p is never 0
    return Comparison(difference, interval(apart), ahead, p)


def compare_all(maps: Sequence[NDArray[np.float64]], mean_aps: Sequence[float]) -> dict[tuple[int, int], Comparison]:
    """Compares every pair of detectors, in the order of their indices, over the same draws.

    Of many comparisons, some favour one detector by chance: the values of p are corrected by Holm's method (1979),
    which keeps the chance of any wrong verdict below 5%.

    Args:
        maps: the mAPs of each detector over the draws. mean_aps: its mAP over all images.
    """
    pairs = [(i, j) for i in range(len(maps)) for j in range(i + 1, len(maps))]
    found = {(i, j): compare(maps[i], maps[j], mean_aps[i] - mean_aps[j]) for i, j in pairs}
    highest = 0.0
    for rank, pair in enumerate(sorted(pairs, key=lambda pair: found[pair].p)):
        highest = max(highest, min(1.0, (len(pairs) - rank) * found[pair].p))
        found[pair] = found[pair]._replace(p=highest)
    return found


def draws_for(detectors: int) -> int:
    """How many draws comparing that many detectors needs, so that the corrected p can fall below 0.05."""
    return DRAWS * max(1, -(-detectors * (detectors - 1) // 2 // 10))
