"""The boxes around COCO's segmentations, for annotations without a bbox."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from frcnn_cli.data.formats.pictures import box_around


def box_of(segmentation: Any) -> tuple[float, float, float, float] | None:
    """The box around a segmentation, x1 y1 x2 y2 in continuous pixels; None if there is none, or if it is empty.

    Args:
        segmentation: polygons, each a list x1 y1 x2 y2 ...; or a run-length encoded mask, `size` (height, width) and
            `counts`: the lengths of the runs of 0 and 1 in turn, down the columns from the left, as a list or
            compressed.

    Raises:
        ValueError, TypeError, KeyError, OverflowError: it is neither.
    """
    if isinstance(segmentation, list) and segmentation:
        numbers = [float(v) for polygon in segmentation for v in polygon]
        return box_around(zip(numbers[::2], numbers[1::2], strict=True)) if numbers else None
    if not isinstance(segmentation, Mapping):
        return None
    height, _ = (int(side) for side in segmentation["size"])
    counts = segmentation["counts"]
    runs = _decompress(counts) if isinstance(counts, str) else [int(count) for count in counts]
    start, points = 0, []
    for i, run in enumerate(runs):
        end = start + run
        if i % 2 and run > 0 and height > 0:
            (x1, y1), (x2, y2) = divmod(start, height), divmod(end - 1, height)
            points += [(x1, y1), (x2 + 1, y2 + 1)] if x1 == x2 else [(x1, 0), (x2 + 1, height)]
        start = end
    return box_around(points) if points else None


def _decompress(text: str) -> list[int]:
    """COCO's compressed runs: numbers in base 32 from the lowest digit, with an offset of 48 per character, each but
    the first three relative to the one before the last (`rleFrString` of the COCO API)."""
    runs: list[int] = []
    at = 0
    while at < len(text):
        value, shift, more = 0, 0, True
        while more:
            digit = ord(text[at]) - 48
            if not 0 <= digit < 64 or shift > 60:
                raise ValueError
            value |= (digit & 31) << shift
            more = bool(digit & 32)
            at, shift = at + 1, shift + 5
            if not more and digit & 16:
                value -= 1 << shift
            if more and at == len(text):
                raise ValueError
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs
