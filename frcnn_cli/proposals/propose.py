"""One image to its proposals: run the source, check what it returned, drop, rank and cut."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.boxes import first_of_equal
from frcnn_cli.errors import FrcnnError, SourceError
from frcnn_cli.image import Image
from frcnn_cli.proposals.source import Proposals, ProposalSource

INSIDE_TOLERANCE = 1e-3  # pixels; what float32 arithmetic may add to a corner


class Limits(NamedTuple):
    """What is kept of a source's boxes."""

    max_boxes: int = 2000
    min_size: float = 20.0  # pixels; boxes narrower or lower are dropped, as the paper's selective search does


def propose(image: Image | NDArray[np.uint8], source: ProposalSource, limits: Limits = Limits()) -> Proposals:
    """The proposals of one image, best first: no duplicates, none under `min_size`, at most `max_boxes`.

    A source's scores rank its boxes; without scores its own order does. Equal boxes keep the best place.

    Args:
        image: an `Image`, or uint8 [H, W, 3] RGB.

    Raises:
        SourceError: the source failed, or returned something that is not boxes of this image.
    """
    image = image if isinstance(image, Image) else Image.from_array(image)
    try:
        answer = source.propose(image)
    except FrcnnError:
        raise
    except (Exception, SystemExit) as error:
        raise SourceError(
            f"source {source.name!r} failed on {image.key} ({type(error).__name__}: {error})",
            "Report it to the source's author, or try another --source",
        ) from error
    return kept(checked(answer, image, source.name), limits)


def kept(proposals: Proposals, limits: Limits) -> Proposals:
    """The best of a source's boxes: by their scores if they have any, each once, within the limits."""
    boxes, scores = proposals
    if scores is not None:
        order = np.argsort(-scores, kind="stable")
        boxes, scores = boxes[order], scores[order]
    large = np.flatnonzero((boxes[:, 2:] - boxes[:, :2] >= limits.min_size).all(axis=1))
    best = large[first_of_equal(boxes[large])][: limits.max_boxes]
    return Proposals(boxes[best], None if scores is None else scores[best])


def checked(answer: Any, image: Image, source: str) -> Proposals:
    """What a source returned, made sure of: float32 [N, 4] inside the image, and float32 [N] scores or None.

    Raises:
        SourceError: wrong type, shape or dtype, NaN, inverted boxes, boxes outside the image.
    """
    boxes, scores = answer if isinstance(answer, tuple) else (answer, None)
    problem = _problem(boxes, scores, image)
    if problem:
        raise SourceError(
            f"source {source!r} returned {problem} for {image.key}",
            "This is a fault of the source: frcnn_cli.testing.check_proposal_source shows it",
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
