"""Labelled boxes of one image: what is there (ground truth), and what a detector says is there (detections).

Labels are integers 0 .. K-1 into a tuple of K class names; the background has no label.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.boxes import Boxes, as_boxes


@dataclass(frozen=True)
class GroundTruth:
    """The objects of one image.

    boxes: float32 [G, 4]; labels: int64 [G]; difficult: bool [G], VOC's mark for objects that evaluation ignores.
    """

    boxes: Boxes
    labels: NDArray[np.int64]
    difficult: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))

    def __post_init__(self) -> None:
        object.__setattr__(self, "boxes", as_boxes(self.boxes))
        object.__setattr__(self, "labels", np.asarray(self.labels, np.int64).reshape(-1))
        difficult = np.asarray(self.difficult, bool).reshape(-1)
        if difficult.size == 0:
            difficult = np.zeros(len(self.boxes), bool)
        object.__setattr__(self, "difficult", difficult)
        if not len(self.boxes) == len(self.labels) == len(self.difficult):
            raise ValueError(f"{len(self.boxes)} boxes, {len(self.labels)} labels, {len(self.difficult)} marks differ")

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True)
class Detections:
    """What was found in one image, by falling score.

    boxes: float32 [D, 4]; scores: float32 [D], probabilities in [0, 1]; labels: int64 [D].
    """

    boxes: Boxes
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        object.__setattr__(self, "boxes", as_boxes(self.boxes))
        object.__setattr__(self, "scores", np.asarray(self.scores, np.float32).reshape(-1))
        object.__setattr__(self, "labels", np.asarray(self.labels, np.int64).reshape(-1))
        if not len(self.boxes) == len(self.scores) == len(self.labels):
            raise ValueError(f"{len(self.boxes)} boxes, {len(self.scores)} scores, {len(self.labels)} labels differ")

    def __len__(self) -> int:
        return len(self.boxes)
