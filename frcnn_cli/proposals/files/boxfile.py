"""What every reader of box files returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.errors import FileFormatError
from frcnn_cli.image import ImageRecord


@dataclass(frozen=True)
class BoxFile:
    """The entries of a box file, one an image.

    kind: what the file is, for people ("COCO results").
    names: which image each entry is of; None where only their order tells.
    read: the rows of entry i, float64 [N, 4], or [N, 5] with scores, as they are written.
    told: what the file tells of its convention, by the names of `Convention`'s fields.
    records: where the file knows its images by content (our own).
    """

    path: Path
    kind: str
    count: int
    read: Callable[[int], NDArray[np.float64]]
    names: Sequence[str] | None = None
    told: Mapping[str, Any] = field(default_factory=dict)
    records: Sequence[ImageRecord] | None = None


def as_rows(value: Any, where: str) -> NDArray[np.float64]:
    """An array, or a list of lists, as float64 [N, 4 or 5].

    Raises:
        FileFormatError: another shape, or no numbers.
    """
    array = _numbers(value, where)
    if array.size == 0:
        return np.zeros((0, 5 if array.ndim == 2 and array.shape[1] == 5 else 4))
    if array.ndim == 1 and len(array) in (4, 5):
        array = array[None]
    if array.ndim != 2 or array.shape[1] not in (4, 5):
        raise FileFormatError(f"{where} has the shape {list(array.shape)}", "Write [N, 4], or [N, 5] with scores")
    return array


def with_scores(boxes: NDArray[np.float64], scores: Any, where: str) -> NDArray[np.float64]:
    """Boxes [N, 4] and scores, [N] or [N, 1], as rows [N, 5].

    Raises:
        FileFormatError: scores that are no numbers, or not one a box.
    """
    column = _numbers(scores, f"{where} (scores)").reshape(-1)
    if len(column) != len(boxes):
        raise FileFormatError(f"{where} has {len(boxes)} boxes and {len(column)} scores", "Write one score a box")
    return np.concatenate([boxes[:, :4], column[:, None]], axis=1)


def _numbers(value: Any, where: str) -> NDArray[np.float64]:
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "iuf" and array.size:
            raise ValueError
        return array.astype(np.float64)
    except (ValueError, TypeError, OverflowError):
        raise FileFormatError(f"{where} does not hold numbers", "Write [N, 4], or [N, 5] with scores") from None
