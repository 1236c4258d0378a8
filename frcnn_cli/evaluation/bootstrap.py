"""Confidence intervals of mAP by bootstrap over the images of the set.

Images are drawn with replacement, as many as there are, many times; the distribution of the mAPs estimates the
uncertainty. Two detectors are compared on the same draws, so that a difficult image affects both.
"""

from __future__ import annotations

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
    """difference: mAP of the first minus that of the second. interval: of the difference. better: fraction of the draws
    in which the first is better (a tie counts half)."""

    difference: float
    interval: Interval
    better: float

    @property
    def verdict(self) -> str:
        """ "first", "second", or "neither" if the interval contains 0."""
        if self.interval.low > 0:
            return "first"
        return "second" if self.interval.high < 0 else "neither"


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
    return Comparison(difference, interval(apart), ahead)
