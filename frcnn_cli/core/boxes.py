"""The one coordinate convention, and the geometry of boxes.

A box is `x1 y1 x2 y2`, float32, in continuous pixels of the upright original image: a box around a whole W x H image is
`0 0 W H`, and the width of a box is `x2 - x1`. Every other convention (1-based, inclusive, y-first, x y w h) exists
only where files are read and written, through the converters below.

Glossary: N, M number of boxes; W, H width and height of the image in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]  # [N, 4], x1 y1 x2 y2
MIN_SIZE = 20.0  # pixels; the paper's selective search drops boxes that are narrower or lower

_BLOCK_PAIRS = 1 << 21
_FIRST_PIXEL = 1.5  # fractions are at most 1, and reading VOC subtracts 1


def as_boxes(values: Any) -> Boxes:
    """Validates boxes where they enter: an array-like of shape [N, 4], or an empty one, as float32 [N, 4].

    Raises:
        ValueError: another shape, or a value that is not finite.
    """
    boxes = np.asarray(values, dtype=np.float32)
    if boxes.size == 0:
        return np.zeros((0, 4), np.float32)
    _check_shape(boxes)
    if not np.isfinite(boxes).all():
        raise ValueError("boxes hold NaN or infinity")
    return boxes


def are_fractions(boxes: NDArray[Any]) -> bool:
    """Whether most boxes [N, 4] lie in the first pixel of their image, as only fractions of the image size do; False
    for no boxes.

    Raises:
        ValueError: boxes are not of shape [N, 4].
    """
    return bool(len(boxes)) and float((np.abs(_check_shape(boxes)) <= _FIRST_PIXEL).all(axis=1).mean()) > 0.5


def area(boxes: NDArray[Any]) -> NDArray[Any]:
    """Areas [N] in square pixels; 0 for an inverted box. Integer boxes are computed in int64.

    Raises:
        ValueError: boxes are not of shape [N, 4].
    """
    boxes = _check_shape(boxes)
    if boxes.dtype.kind in "biu":
        boxes = boxes.astype(np.int64)  # the product of two sides overflows small integer types
    size = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    areas: NDArray[Any] = size[:, 0] * size[:, 1]
    return areas


def iou(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Intersection over union of every pair: [N, 4] and [M, 4] -> float64 [N, M]; 0 where both boxes are empty.

    Computed in float64, so that the thresholds of matching (IoU >= 0.5) are met exactly where the arithmetic says so.

    Raises:
        ValueError: boxes are not of shape [N, 4].
    """
    a, b = _check_shape(a).astype(np.float64), _check_shape(b).astype(np.float64)
    intersection = _intersection(a, b)
    return _ratio(intersection, area(a)[:, None] + area(b)[None, :] - intersection)


def best_overlap(
    a: NDArray[Any], b: NDArray[Any], measure: Callable[..., NDArray[np.float64]] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The largest IoU of each box of `a` with a box of `b`, and which box that is: float64 [N] and int64 [N].

    A part of `a` at a time is compared, so that the memory does not grow with N times M. Of equals, the first counts;
    if `b` is empty, both are 0.

    Args:
        a, b: [N, 4] and [M, 4].
        measure: another function of all pairs instead of `iou`, for example `covered`.

    Raises:
        ValueError: boxes are not of shape [N, 4].
    """
    a, b = _check_shape(a), _check_shape(b)
    largest, which = np.zeros(len(a)), np.zeros(len(a), np.int64)
    if len(b):
        for rows in in_blocks(len(a), len(b)):
            table = (measure or iou)(a[rows], b)
            which[rows] = table.argmax(axis=1)
            largest[rows] = np.take_along_axis(table, which[rows][:, None], axis=1)[:, 0]
    return largest, which


def in_blocks(rows: int, columns: int) -> Iterator[slice]:
    """Slices of `rows` rows, so that a block of a table with that many columns has at most two million pairs (16 MB in
    float64)."""
    step = max(1, _BLOCK_PAIRS // max(1, columns))
    for start in range(0, rows, step):
        yield slice(start, start + step)


def covered(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """The part of each box of `a` that lies inside each box of `b`, for all pairs: [N, 4] and [M, 4] -> float64 [N, M];
    0 for a box without area.

    Raises:
        ValueError: boxes are not of shape [N, 4].
    """
    a, b = _check_shape(a).astype(np.float64), _check_shape(b).astype(np.float64)
    intersection = _intersection(a, b)
    return _ratio(intersection, np.broadcast_to(area(a)[:, None], intersection.shape))


def _intersection(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    width, height = (
        np.minimum(a[:, None, axis + 2], b[None, :, axis + 2]) - np.maximum(a[:, None, axis], b[None, :, axis])
        for axis in (0, 1)
    )
    product: NDArray[np.float64] = np.maximum(width, 0) * np.maximum(height, 0)
    return product


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    ratio: NDArray[np.float64] = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return ratio


def clip(boxes: Boxes, height: int, width: int) -> Boxes:
    """Boxes clipped to the image: [..., 4] with any leading shape, 0 <= x <= W and 0 <= y <= H."""
    limits = np.array([width, height, width, height], boxes.dtype)
    return np.minimum(np.maximum(boxes, 0), limits)


def flip_horizontally(boxes: Boxes, width: int) -> Boxes:
    """Boxes [N, 4] in the mirrored image: x1' = W - x2, x2' = W - x1."""
    flipped = boxes.copy()
    flipped[:, 0] = width - boxes[:, 2]
    flipped[:, 2] = width - boxes[:, 0]
    return flipped


def first_of_equal(boxes: Boxes) -> NDArray[np.int64]:
    """Ascending indices of the first box of each set of equal boxes."""
    if len(boxes) == 0:
        return np.zeros(0, np.int64)
    _, first = np.unique(boxes, axis=0, return_index=True)
    return np.sort(first)


def from_inclusive(boxes: NDArray[Any], base: int) -> Boxes:
    """From whole-pixel corners that both lie inside the box, counted from `base` (VOC: 1; the Caffe code: 0)."""
    offset = np.array([base, base, base - 1, base - 1], np.float64)
    return (np.asarray(boxes, np.float64) - offset).astype(np.float32)


def to_inclusive(boxes: Boxes, base: int) -> NDArray[np.float32]:
    """To whole-pixel corners that both lie inside the box, counted from `base`; the inverse of `from_inclusive`."""
    offset = np.array([base, base, base - 1, base - 1], np.float32)
    return boxes + offset


def from_xywh(boxes: NDArray[Any]) -> Boxes:
    """From corner and size: x y w h, 0-based, w and h in pixels (OpenCV, COCO)."""
    boxes = np.asarray(boxes, np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1).astype(np.float32)


def _check_shape(boxes: NDArray[Any]) -> NDArray[Any]:
    boxes = np.asarray(boxes)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"expected boxes of shape [N, 4], got {list(boxes.shape)}")
    return boxes
