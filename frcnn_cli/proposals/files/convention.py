"""How the four numbers of a box may be meant, and finding out.

A file may count pixels from 0 or 1, name the last pixel inside the box or the first one beyond, put y first, give width
and height instead of the far corner, or write shares of the image. Read wrongly, most boxes still look like boxes, and
a detector trained on them is quietly worse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.annotations import GroundTruth
from frcnn_cli.boxes import iou

ORDERS = ("xyxy", "yxyx", "xywh", "yxhw")
SLACK = 0.01  # pixels; what decimal places and float32 may add to a corner
_MAX_ROWS = 400_000  # what is looked at: more does not tell more


@dataclass(frozen=True)
class Convention:
    """How a file's numbers are meant.

    order: xyxy (corners), yxyx, xywh (corner and size) or yxhw.
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

    def to_boxes(self, rows: NDArray[np.float64], width: Any, height: Any) -> NDArray[np.float64]:
        """Numbers [N, 4] as written to boxes x1 y1 x2 y2 in our convention, float64; sizes are scalars or [N]."""
        a, b, c, d = rows[:, :4].T
        if self.order[0] == "y":
            a, b, c, d = b, a, d, c
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
    """The reading that fits best.

    What is not told is tried in every combination. The best reading has the fewest boxes that are inverted, empty or
    outside their image; of equal ones the one with most boxes that end exactly at their image's border, which a reading
    that is off by one has not; then the one whose boxes overlap the objects most; and then our own convention comes
    first.

    Args:
        told: fields of `Convention` that are known.
    """
    rows, width, height = _sample(entries)
    relative = told["relative"] if "relative" in told else _is_relative(rows, width, height)
    choices: dict[str, tuple[Any, ...]] = {
        "order": ORDERS,
        "base": (0,) if relative else (0, 1),
        "inclusive": (False,) if relative else (False, True),
        "relative": (relative,),
    }
    choices |= {name: (value,) for name, value in told.items()}
    readings = [Convention(*values) for values in product(*(choices[field.name] for field in fields(Convention)))]
    readings = [reading for reading in readings if "inclusive" in told or not _is_odd(reading)]
    fits = [_fit(reading, rows, width, height) for reading in readings]
    tied = [reading for reading, fit in zip(readings, fits, strict=True) if fit == max(fits)]
    why = "found"
    if len(tied) > 1 and any(entry.truth is not None and len(entry.truth) for entry in entries):
        overlaps = [_mean_best_overlap(reading, entries) for reading in tied]
        tied = [reading for reading, overlap in zip(tied, overlaps, strict=True) if overlap == max(overlaps)]
        why = "found by the objects"
    because = {}
    for name in choices:
        agreed = len({getattr(reading, name) for reading in tied}) == 1 and len(rows) > 0
        because[name] = "told" if name in told else why if agreed else "assumed"
    return Finding(tied[0], because)


def _is_odd(reading: Convention) -> bool:
    """What nobody writes without saying so: an end beyond the box counted from 1, and sizes that are a pixel short."""
    if reading.order in ("xywh", "yxhw"):
        return reading.inclusive
    return reading.base == 1 and not reading.inclusive


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
    """Shares of the image are between 0 and 1; pixels of images that have more than two would not all be."""
    return len(rows) > 0 and bool(rows.max() <= 1 + 1e-6) and bool(max(width.max(), height.max()) > 2)


def _fit(
    reading: Convention, rows: NDArray[np.float64], width: NDArray[np.float64], height: NDArray[np.float64]
) -> tuple[int, int]:
    x1, y1, x2, y2 = reading.to_boxes(rows, width, height).T
    bad = (x1 < -SLACK) | (y1 < -SLACK) | (x2 > width + SLACK) | (y2 > height + SLACK) | (x2 <= x1) | (y2 <= y1)
    touching = sum(int((np.abs(gap) < SLACK).sum()) for gap in (x1, y1, x2 - width, y2 - height))
    return -int(bad.sum()), touching


def _mean_best_overlap(reading: Convention, entries: Sequence[Entry]) -> float:
    best = [
        iou(reading.to_boxes(entry.rows[:, :4], entry.width, entry.height), entry.truth.boxes).max(axis=0)
        for entry in entries
        if entry.truth is not None and len(entry.truth) and len(entry.rows)
    ]
    return float(np.concatenate(best).mean()) if best else 0.0
