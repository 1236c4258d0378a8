"""Boxes of a source, validated; and the best of them within limits."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from frcnn_cli.core.boxes import MIN_SIZE, first_of_equal
from frcnn_cli.core.errors import SourceError
from frcnn_cli.core.image import Image
from frcnn_cli.proposals.source import Proposals

INSIDE_TOLERANCE = 1e-3  # pixels that float32 arithmetic may add to a corner


class Limits(NamedTuple):
    """Which of a source's boxes are kept."""

    max_boxes: int = 2000
    min_size: float = MIN_SIZE  # pixels; narrower or lower boxes are dropped


def best_of(proposals: Proposals, limits: Limits) -> Proposals:
    """The best boxes of a source within the limits: by score if there are scores, each box once."""
    boxes, scores = proposals
    if scores is not None:
        order = np.argsort(-scores, kind="stable")
        boxes, scores = boxes[order], scores[order]
    large = np.flatnonzero((boxes[:, 2:] - boxes[:, :2] >= limits.min_size).all(axis=1))
    best = large[first_of_equal(boxes[large])][: limits.max_boxes]
    return Proposals(boxes[best], None if scores is None else scores[best])


def validated(answer: Any, image: Image, source: str) -> Proposals:
    """What a source returned, validated: float32 [N, 4] inside the image, and float32 [N] scores or None.

    Raises:
        SourceError: wrong type, shape or dtype, NaN, inverted boxes, boxes outside the image.
    """
    parts = answer if isinstance(answer, tuple) else (answer, None)
    boxes, scores = parts if len(parts) == 2 else (None, None)
    if isinstance(boxes, np.ndarray) and boxes.size == 0 and boxes.dtype.kind == "f":
        boxes = boxes.astype(np.float32).reshape(0, 4)
    problem = _problem(boxes, scores, image) if len(parts) == 2 else f"a tuple of {len(parts)} instead of Proposals"
    if problem or boxes is None:
        raise SourceError(
            f"source {source!r} returned {problem} for {image.key}",
            "This is a bug of the source; frcnn_cli.testing.check_proposal_source reproduces it",
        )
    limits = np.array([image.width, image.height] * 2, np.float32)
    return Proposals(np.clip(boxes, 0, limits), scores)


def _problem(boxes: Any, scores: Any, image: Image) -> str:
    if not isinstance(boxes, np.ndarray):
        return f"a {type(boxes).__name__} instead of an array of boxes"
    if boxes.dtype != np.float32 or boxes.ndim != 2 or boxes.shape[1] != 4:
        return f"boxes of {boxes.dtype} {list(boxes.shape)} instead of float32 [N, 4]"
    if not np.isfinite(boxes).all():
        return "boxes with NaN or infinity"
    if (boxes[:, 2:] < boxes[:, :2]).any():
        return "boxes with x2 < x1 or y2 < y1"
    limits = np.array([image.width, image.height], np.float32) + INSIDE_TOLERANCE
    if (boxes[:, :2] < -INSIDE_TOLERANCE).any() or (boxes[:, 2:] > limits).any():
        return f"boxes outside the {image.width} x {image.height} image"
    if scores is None:
        return ""
    if not isinstance(scores, np.ndarray) or scores.dtype != np.float32 or scores.shape != (len(boxes),):
        found = f"{scores.dtype} {list(scores.shape)}" if isinstance(scores, np.ndarray) else type(scores).__name__
        return f"scores of {found} instead of float32 [{len(boxes)}]"
    return "" if np.isfinite(scores).all() else "scores with NaN or infinity"
