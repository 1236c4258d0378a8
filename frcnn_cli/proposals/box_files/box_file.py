"""What every reader of box files returns, and the endings of files that can be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.errors import FileFormatError
from frcnn_cli.core.image import ImageRecord
from frcnn_cli.proposals.source import Proposals

ENDINGS = (".h5", ".npz", ".csv", ".tsv", ".json", ".mat", ".pkl", ".pickle", ".parquet")

Items = Sequence[tuple[ImageRecord, Proposals]]  # what every writer of box files takes


@dataclass(frozen=True, eq=False)
class BoxFile:
    """The entries of a box file, one per image.

    kind: the format, for people ("COCO results").
    count: the number of entries.
    read: the rows of entry i as they are written, float64 [N, 4], or [N, 5] with scores.
    names: the image of each entry; None if only their order identifies them.
    stated: what the file states about its convention, by the names of the fields of `Convention`.
    records: the records of the images, if the file identifies them by content (our own format).
    """

    path: Path
    kind: str
    count: int
    read: Callable[[int], NDArray[np.float64]]
    names: Sequence[str] | None = None
    stated: Mapping[str, Any] = field(default_factory=dict)
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
        FileFormatError: scores that are no numbers, or not one per box.
    """
    column = _numbers(scores, f"{where} (scores)").reshape(-1)
    if len(column) != len(boxes):
        raise FileFormatError(f"{where} has {len(boxes)} boxes, but {len(column)} scores", "Write one score per box")
    return np.concatenate([boxes[:, :4], column[:, None]], axis=1)


def rows_of(found: Proposals) -> NDArray[np.float32]:
    """Proposals as rows: float32 [N, 4], or [N, 5] with scores."""
    if found.scores is None:
        return found.boxes
    return np.concatenate([found.boxes, found.scores[:, None]], axis=1)


def _numbers(value: Any, where: str) -> NDArray[np.float64]:
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "iuf" and array.size:
            raise ValueError
        return array.astype(np.float64)
    except (ValueError, TypeError, OverflowError):
        raise FileFormatError(f"{where} does not hold numbers", "Write [N, 4], or [N, 5] with scores") from None
