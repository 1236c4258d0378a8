"""Converts between detections and the columns of a detections file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.annotations import Detections


def to_columns(detections: Detections) -> dict[str, NDArray[Any]]:
    """`boxes` float32 [D, 4], `scores` float32 [D], `labels` int32 [D], and, if known, `proposals` int32 [D]."""
    columns: dict[str, NDArray[Any]] = {
        "boxes": detections.boxes,
        "scores": detections.scores,
        "labels": detections.labels.astype(np.int32),
    }
    if len(detections.proposals) or not len(detections):
        columns["proposals"] = detections.proposals.astype(np.int32)
    return columns


def from_columns(columns: Mapping[str, NDArray[Any]], classes: Sequence[str] = ()) -> Detections:
    """The inverse of `to_columns`."""
    indices = columns.get("proposals", np.zeros(0, np.int64))
    return Detections(columns["boxes"], columns["scores"], columns["labels"], tuple(classes), indices)
