"""How the four numbers of a box may be meant, and finding out.

A file may count pixels from 0 or 1, name the last pixel inside the box or the first one beyond, put y first, give width
and height instead of the far corner, or write shares of the image. Read wrongly, most boxes still look like boxes, and
a detector trained on them is quietly worse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.annotations import GroundTruth
from frcnn_cli.boxes import iou

ORDERS = ("xyxy", "yxyx", "xywh", "yxhw", "cxcywh")  # the first that fits is preferred
SLACK = 0.01  # pixels; what decimal places and float32 may add to a corner
_MAX_ROWS = 400_000  # what is looked at: more does not tell more


@dataclass(frozen=True)
class Convention:
    """How a file's numbers are meant.

    order: xyxy (corners), yxyx, xywh (corner and size), yxhw, or cxcywh (centre and size).
    base: what the first pixel's coordinate is, 0 or 1.
    inclusive: whether the far corner is the last pixel inside; with a size, whether the size is far minus near corner.
    relative: whether numbers are shares of the image's width and height.
    """

    order: str = "xyxy"
    base: int = 0
    inclusive: bool = False
    relative: bool = False

    def __str__(self) -> str:
        corners = "far corner inside the box" if self.inclusive else "far corner beyond the box"
        return f"{self.order}, from {self.base}, {corners}{', relative to the image' if self.relative else ''}"

    @property
    def words(self) -> str:
        """The convention in four words, for files that tell it."""
        end = "inside" if self.inclusive else "beyond"
        return f"{self.order} {self.base} {end} {'relative' if self.relative else 'absolute'}"

    @classmethod
    def from_words(cls, words: Any) -> Convention:
        """The inverse of `words`. Raises ValueError."""
        for order in ORDERS:
            for base, inclusive, relative in product((0, 1), (False, True), (False, True)):
                if (one := cls(order, base, inclusive, relative)).words == words:
                    return one
        raise ValueError(f"{words!r} is no convention")

    def to_boxes(self, rows: NDArray[np.float64], width: Any, height: Any) -> NDArray[np.float64]:
        """Numbers [N, 4] as written to boxes x1 y1 x2 y2 in our convention, float64; sizes are scalars or [N]."""
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
        """The inverse of `to_boxes` for the boxes [N, 4] of one image."""
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
    """One image's rows [N, 4 or 5] as written, its size, and its objects if they are known."""

    rows: NDArray[np.float64]
    width: int
    height: int
    truth: GroundTruth | None = None


class Finding(NamedTuple):
    """The convention, and for each of its fields why: told, found, or assumed."""

    convention: Convention
    because: dict[str, str]


def find_convention(entries: Sequence[Entry], told: Mapping[str, Any]) -> Finding:
    """The reading that fits best; our own convention where nothing tells.

    First the order: the reading with the fewest boxes that are inverted or reach outside their image by more than a
    pixel, and of equal ones the one whose boxes overlap the objects most. Then where pixels begin and where boxes end:
    proposals pile up at the borders of images, and read rightly, they pile up exactly there and not a pixel beside.

    Args:
        told: fields of `Convention` that are known.
    """
    rows, width, height = _sample(entries)
    relative = told["relative"] if "relative" in told else _is_relative(rows, width, height)
    because = {"relative": "told" if "relative" in told else "found" if len(rows) else "assumed"}
    truth = any(entry.truth is not None and len(entry.truth) for entry in entries)

    orders = (told["order"],) if "order" in told else ORDERS
    readings = [Convention(order, relative=relative) for order in orders]
    misfits = [_misfits(reading, rows, width, height) for reading in readings]
    fewest = min(int(bad.sum()) for bad in misfits)
    readings = [reading for reading, bad in zip(readings, misfits, strict=True) if bad.sum() == fewest]
    because["order"] = "told" if "order" in told else "found" if len(readings) == 1 else "assumed"
    if len(readings) > 1 and truth:
        readings, because["order"] = _by_objects(readings, entries, margin=0.01)
    order = readings[0].order
    fitting = ~_misfits(readings[0], rows, width, height)
    rows, width, height = rows[fitting], width[fitting], height[fitting]

    bases = (told["base"],) if "base" in told else (0,) if relative else (0, 1)
    ends = (told["inclusive"],) if "inclusive" in told else (False,) if relative else (False, True)
    readings = [Convention(order, base, inclusive, relative) for base in bases for inclusive in ends]
    readings = [reading for reading in readings if "inclusive" in told or not _is_odd(reading)]
    piles = np.array([_piled(reading, rows, width, height) for reading in readings])
    why = "found"
    if len(readings) > 1 and piles.max() - np.sort(piles)[-2] < max(4, len(rows) / 200):
        why = "assumed"
        if truth:
            # Overlap favours larger boxes, so only boxes that are the objects themselves can tell a pixel.
            readings, why = _by_objects(readings, entries, margin=0.005, least=0.97)
        best = readings[0]
    else:
        best = readings[int(piles.argmax())]
        why = "found" if len(rows) else "assumed"
    for name, values in (("base", bases), ("inclusive", ends)):
        because[name] = "told" if name in told else because["relative"] if relative and len(values) == 1 else why
    return Finding(best, {name: because[name] for name in vars(best)})


def _is_odd(reading: Convention) -> bool:
    """What nobody writes without saying so: an end beyond the box counted from 1, and sizes that are a pixel short."""
    if reading.order.endswith(("wh", "hw")):
        return reading.inclusive
    return reading.base == 1 and not reading.inclusive


def _by_objects(
    readings: Sequence[Convention], entries: Sequence[Entry], margin: float, least: float = 0.0
) -> tuple[list[Convention], str]:
    """The reading whose boxes cover the objects best, if by more than `margin` and with a mean best overlap of at
    least `least`; else all of them, as they were."""
    overlaps = [_mean_best_overlap(reading, entries) for reading in readings]
    best = int(np.argmax(overlaps))
    others = [overlap for i, overlap in enumerate(overlaps) if i != best]
    if overlaps[best] < least or overlaps[best] - max(others) <= margin:
        return list(readings), "assumed"
    return [readings[best]], "found by the objects"


def _sample(entries: Sequence[Entry]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Rows [T, 4] of finite numbers and the sizes of their images [T], of every image a fair part."""
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
    """Shares of the image lie between 0 and 1, or a little beyond; pixels of all boxes do not."""
    if not len(rows) or max(width.max(), height.max()) <= 2:
        return False
    return bool(((rows > -0.5) & (rows < 1.5)).mean() > 0.99)


def _misfits(
    reading: Convention, rows: NDArray[np.float64], width: NDArray[np.float64], height: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which boxes are inverted or outside their image by more than a pixel, which no base or end explains: [T]."""
    slack = 1 + SLACK
    x1, y1, x2, y2 = reading.to_boxes(rows, width, height).T
    bad = (x1 < -slack) | (y1 < -slack) | (x2 > width + slack) | (y2 > height + slack)
    misfits: NDArray[np.bool_] = bad | (x2 < x1 - slack) | (y2 < y1 - slack)
    return misfits


def _piled(
    reading: Convention, rows: NDArray[np.float64], width: NDArray[np.float64], height: NDArray[np.float64]
) -> int:
    """Sides of boxes exactly at the border, less those a pixel inside, ten times those a pixel outside, and boxes
    without area."""
    x1, y1, x2, y2 = reading.to_boxes(rows, width, height).T
    score = -int(((x2 <= x1) | (y2 <= y1)).sum())
    for gap in (x1, y1, width - x2, height - y2):
        for place, weight in ((0, 1), (1, -1), (-1, -10)):
            score += weight * int((np.abs(gap - place) < SLACK).sum())
    return score


def _mean_best_overlap(reading: Convention, entries: Sequence[Entry]) -> float:
    best = [
        iou(reading.to_boxes(entry.rows[:, :4], entry.width, entry.height), entry.truth.boxes).max(axis=0)
        for entry in entries
        if entry.truth is not None and len(entry.truth) and len(entry.rows)
    ]
    return float(np.concatenate(best).mean()) if best else 0.0
