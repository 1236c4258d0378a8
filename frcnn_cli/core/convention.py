"""The possible meanings of the four numbers of a box, and their detection.

A file may count pixels from 0 or 1, name the last pixel inside the box or the first one outside, put y first, give
width and height instead of the far corner, or write numbers relative to the image size. Read in the wrong convention,
most boxes still look plausible, and a detector that is trained on them is worse without any error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.annotations import GroundTruth
from frcnn_cli.core.boxes import iou

ORDERS = ("xyxy", "yxyx", "xywh", "yxhw", "cxcywh")  # the first that fits is preferred
TOLERANCE = 0.01  # pixels that rounding to decimals and float32 may add to a corner
_MAX_ROWS = 400_000  # boxes that detection uses; more do not change the result


@dataclass(frozen=True)
class Convention:
    """The meaning of the numbers in a file.

    order: xyxy (corners), yxyx, xywh (corner and size), yxhw, or cxcywh (centre and size).
    base: the coordinate of the first pixel, 0 or 1.
    inclusive: whether the far corner is the last pixel inside the box; with a size, whether the size is the last pixel
        minus the first, one less than the width.
    relative: whether numbers are relative to the width and height of the image.
    """

    order: str = "xyxy"
    base: int = 0
    inclusive: bool = False
    relative: bool = False

    def __str__(self) -> str:
        corners = "far corner inside the box" if self.inclusive else "far corner outside the box"
        return (
            f"{self.order}, pixels from {self.base}, {corners}{', relative to the image size' if self.relative else ''}"
        )

    @property
    def words(self) -> str:
        """The convention in four words, for files that state it."""
        end = "inside" if self.inclusive else "beyond"
        return f"{self.order} {self.base} {end} {'relative' if self.relative else 'absolute'}"

    @classmethod
    def from_words(cls, words: Any) -> Convention:
        """The inverse of `words`. Raises ValueError."""
        for order in ORDERS:
            for base, inclusive, relative in product((0, 1), (False, True), (False, True)):
                if (one := cls(order, base, inclusive, relative)).words == words:
                    return one
        raise ValueError(f"{words!r} is not a convention")

    def to_boxes(self, rows: NDArray[np.float64], width: Any, height: Any) -> NDArray[np.float64]:
        """Numbers [N, 4] in this convention -> boxes x1 y1 x2 y2 in ours, float64. width, height: of the image, scalars
        or [N]."""
        a, b, c, d = rows[:, :4].T
        if self.order[0] == "y":
            a, b, c, d = b, a, d, c
        if self.order == "cxcywh":
            a, b = a - c / 2, b - d / 2
        if self.order.endswith(("wh", "hw")):
            c, d = a + c, b + d
        far = 1 if self.inclusive else 0
        boxes = np.stack([a - self.base, b - self.base, c - self.base + far, d - self.base + far], axis=1)
        if self.relative:
            boxes *= np.stack(np.broadcast_arrays(width, height, width, height), axis=-1)
        return boxes

    def from_boxes(self, boxes: NDArray[Any], width: int, height: int) -> NDArray[np.float64]:
        """The inverse of `to_boxes`, for the boxes [N, 4] of one image."""
        boxes = boxes.astype(np.float64)
        if self.relative:
            boxes = boxes / [width, height, width, height]
        far = 1 if self.inclusive else 0
        a, b, c, d = (boxes + np.array([self.base, self.base, self.base - far, self.base - far])).T
        if self.order.endswith(("wh", "hw")):
            c, d = c - a, d - b
        if self.order == "cxcywh":
            a, b = a + c / 2, b + d / 2
        if self.order[0] == "y":
            a, b, c, d = b, a, d, c
        return np.stack([a, b, c, d], axis=1)


OURS = Convention()


class Entry(NamedTuple):
    """The rows [N, 4 or 5] of one image as written, its size, and its objects if they are known."""

    rows: NDArray[np.float64]
    width: int
    height: int
    truth: GroundTruth | None = None


OPTIONS = {"order": "--order", "base": "--base", "inclusive": "--end", "relative": "--relative"}


class Finding(NamedTuple):
    """A convention, and for each of its fields the reason: stated, detected, detected from objects, or assumed."""

    convention: Convention
    because: dict[str, str]

    def __str__(self) -> str:
        reasons = ", ".join(f"{OPTIONS[name].lstrip('-')} {why}" for name, why in self.because.items())
        return f"{self.convention} ({reasons})"

    def doubts(self) -> list[str]:
        """What was assumed, because nothing in the file shows it."""
        values = vars(self.convention)
        return [
            f"{OPTIONS[name]} could not be detected; {as_option(name, values[name])} is assumed: check it, or set the"
            " value"
            for name, why in self.because.items()
            if why == "assumed"
        ]


def as_option(field: str, value: Any) -> str:
    """A field of a `Convention` as it is written on the command line."""
    if field == "inclusive":
        return "--end inside" if value else "--end beyond"
    if field == "relative":
        return "--relative" if value else "--absolute"
    return f"{OPTIONS[field]} {value}"


def detect_convention(entries: Sequence[Entry], stated: Mapping[str, Any]) -> Finding:
    """The convention that fits best; our own if several fit equally well.

    First the order of the numbers: the one with the fewest boxes that are inverted or reach outside their image by more
    than a pixel, and among equals the one whose boxes overlap the objects most. Then base and inclusive: many
    proposals end at the border of the image, and in the right convention they end exactly there, not one pixel off.

    Args:
        stated: fields of `Convention` that are known.
    """
    rows, width, height = _sample(entries)
    relative = stated["relative"] if "relative" in stated else _is_relative(rows, width, height)
    because = {"relative": "stated" if "relative" in stated else "detected" if len(rows) else "assumed"}
    truth = any(entry.truth is not None and len(entry.truth) for entry in entries)

    orders = (stated["order"],) if "order" in stated else ORDERS
    readings = [Convention(order, relative=relative) for order in orders]
    misfits = [_misfits(reading, rows, width, height) for reading in readings]
    fewest = min(int(bad.sum()) for bad in misfits)
    readings = [reading for reading, bad in zip(readings, misfits, strict=True) if bad.sum() == fewest]
    because["order"] = "stated" if "order" in stated else "detected" if len(readings) == 1 else "assumed"
    if len(readings) > 1 and truth:
        readings, because["order"] = _by_objects(readings, entries, margin=0.01)
    order = readings[0].order
    fitting = ~_misfits(readings[0], rows, width, height)
    rows, width, height = rows[fitting], width[fitting], height[fitting]

    bases = (stated["base"],) if "base" in stated else (0,) if relative else (0, 1)
    ends = (stated["inclusive"],) if "inclusive" in stated else (False,) if relative else (False, True)
    readings = [Convention(order, base, inclusive, relative) for base in bases for inclusive in ends]
    readings = [reading for reading in readings if "inclusive" in stated or not _is_unusual(reading)]
    at_border = np.array([_border_score(reading, rows, width, height) for reading in readings])
    why = "detected"
    if len(readings) > 1 and at_border.max() - np.sort(at_border)[-2] < max(4, len(rows) / 200):
        why = "assumed"
        if truth:
            # IoU favours larger boxes, so only boxes that are the objects themselves can distinguish single pixels.
            readings, why = _by_objects(readings, entries, margin=0.005, min_overlap=0.97)
        best = readings[0]
    else:
        best = readings[int(at_border.argmax())]
        why = "detected" if len(rows) else "assumed"
    for name, values in (("base", bases), ("inclusive", ends)):
        because[name] = "stated" if name in stated else because["relative"] if relative and len(values) == 1 else why
    return Finding(best, {name: because[name] for name in vars(best)})


def _is_unusual(reading: Convention) -> bool:
    """Conventions that no known tool uses: a far corner outside the box with pixels from 1, and sizes that are one
    pixel too small."""
    if reading.order.endswith(("wh", "hw")):
        return reading.inclusive
    return reading.base == 1 and not reading.inclusive


def _by_objects(
    readings: Sequence[Convention], entries: Sequence[Entry], margin: float, min_overlap: float = 0.0
) -> tuple[list[Convention], str]:
    """The convention whose boxes cover the objects best, if its mean best IoU is at least `min_overlap` and better than
    that of the others by more than `margin`; else all conventions, in their order."""
    overlaps = [_mean_best_overlap(reading, entries) for reading in readings]
    best = int(np.argmax(overlaps))
    others = [overlap for i, overlap in enumerate(overlaps) if i != best]
    if overlaps[best] < min_overlap or overlaps[best] - max(others) <= margin:
        return list(readings), "assumed"
    return [readings[best]], "detected from the objects"


def _sample(entries: Sequence[Entry]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Finite rows [T, 4] and the sizes of their images [T], with equal shares of every image."""
    total = sum(len(entry.rows) for entry in entries)
    step = max(1, total // _MAX_ROWS)
    rows = [entry.rows[::step, :4] for entry in entries]
    counts = [len(part) for part in rows]
    width = np.repeat([entry.width for entry in entries], counts).astype(np.float64)
    height = np.repeat([entry.height for entry in entries], counts).astype(np.float64)
    every = np.concatenate(rows) if rows else np.zeros((0, 4))
    finite = np.isfinite(every).all(axis=1)
    return every[finite], width[finite], height[finite]


def _is_relative(rows: NDArray[np.float64], width: NDArray[np.float64], height: NDArray[np.float64]) -> bool:
    """Whether nearly all numbers are between 0 and 1, or slightly beyond, as only relative coordinates are."""
    if not len(rows) or max(width.max(), height.max()) <= 2:
        return False
    return bool(((rows > -0.5) & (rows < 1.5)).mean() > 0.99)


def _misfits(
    reading: Convention, rows: NDArray[np.float64], width: NDArray[np.float64], height: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which boxes are inverted, or outside their image, by more than a pixel, which a wrong `base` or `inclusive`
    cannot
    explain: bool [T]."""
    slack = 1 + TOLERANCE
    x1, y1, x2, y2 = reading.to_boxes(rows, width, height).T
    bad = (x1 < -slack) | (y1 < -slack) | (x2 > width + slack) | (y2 > height + slack)
    misfits: NDArray[np.bool_] = bad | (x2 < x1 - slack) | (y2 < y1 - slack)
    return misfits


def _border_score(
    reading: Convention, rows: NDArray[np.float64], width: NDArray[np.float64], height: NDArray[np.float64]
) -> int:
    """The number of sides exactly at the border of the image, minus those one pixel inside, minus ten times those one
    pixel outside, minus boxes without area."""
    x1, y1, x2, y2 = reading.to_boxes(rows, width, height).T
    score = -int(((x2 <= x1) | (y2 <= y1)).sum())
    for gap in (x1, y1, width - x2, height - y2):
        for place, weight in ((0, 1), (1, -1), (-1, -10)):
            score += weight * int((np.abs(gap - place) < TOLERANCE).sum())
    return score


def _mean_best_overlap(reading: Convention, entries: Sequence[Entry]) -> float:
    best = [
        iou(reading.to_boxes(entry.rows[:, :4], entry.width, entry.height), entry.truth.boxes).max(axis=0)
        for entry in entries
        if entry.truth is not None and len(entry.truth) and len(entry.rows)
    ]
    return float(np.concatenate(best).mean()) if best else 0.0
