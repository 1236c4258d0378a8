"""How far a mAP would have come out otherwise on other images: bootstrap over the images of the set.

Images are drawn with replacement, as many as there are, again and again; the spread of the mAPs is that of the
estimate. Two detectors are compared on the same draws, so that what is hard in an image is hard for both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.evaluation.matching import Matches
from frcnn_cli.evaluation.voc import Metric, weighted_mean_ap

DRAWS = 1000
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """The middle 95% of the draws."""

    low: float
    high: float


class Comparison(NamedTuple):
    """difference: mAP of the first less that of the second. interval: of the difference. better: share of the draws
    with an object in which the first is ahead (a tie counts half)."""

    difference: float
    interval: Interval
    better: float

    @property
    def verdict(self) -> str:
        """ "first", "second", or "neither": the interval holds 0."""
        if self.interval.low > 0:
            return "first"
        return "second" if self.interval.high < 0 else "neither"


def draws(images: int, count: int = DRAWS, seed: int = 0) -> NDArray[np.float64]:
    """float64 [count, images]: how often each image is drawn."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(images, np.full(images, 1 / images), size=count).astype(np.float64)


def interval(values: NDArray[np.float64]) -> Interval:
    """Of the values that are numbers: a draw may hold no object at all."""
    known = values[np.isfinite(values)]
    if not len(known):
        return Interval(float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


def mean_aps(
    matches: Matches, metric: Metric, weights: NDArray[np.float64], tell: Callable[[], None] = lambda: None
) -> NDArray[np.float64]:
    """mAP of each draw. `tell` is called after each."""
    found = np.empty(len(weights))
    for i, weight in enumerate(weights):
        found[i] = weighted_mean_ap(matches, metric, weight)
        tell()
    return found


def compare(first: NDArray[np.float64], second: NDArray[np.float64], difference: float) -> Comparison:
    """What two detectors' mAPs over the same draws say.

    Args:
        difference: of the two mAPs over the images as they are.
    """
    apart = first - second
    apart = apart[np.isfinite(apart)]
    ahead = float(np.mean(apart > 0) + 0.5 * np.mean(apart == 0)) if len(apart) else float("nan")
    return Comparison(difference, interval(apart), ahead)
