"""Labelled boxes of one image: what is there (ground truth), and what a detector says is there (detections).

Labels are integers 0 .. K-1 into a tuple of K class names; the background has no label.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.boxes import Boxes, area, as_boxes


def _none() -> NDArray[Any]:
    return np.zeros(0)


@dataclass(frozen=True)
class GroundTruth:
    """The objects of one image.

    boxes: float32 [G, 4]; labels: int64 [G]; difficult: bool [G], VOC's mark for objects that evaluation ignores;
    crowd: bool [G], COCO's mark for a box around many, which are difficult too; areas: float64 [G] in square pixels,
    COCO's of the outline, or of the box. The last three may be left out.
    """

    boxes: Boxes
    labels: NDArray[np.int64]
    difficult: NDArray[np.bool_] = field(default_factory=_none)
    crowd: NDArray[np.bool_] = field(default_factory=_none)
    areas: NDArray[np.float64] = field(default_factory=_none)

    def __post_init__(self) -> None:
        object.__setattr__(self, "boxes", as_boxes(self.boxes))
        object.__setattr__(self, "labels", np.asarray(self.labels, np.int64).reshape(-1))
        count = len(self.boxes)
        for name, kind in (("difficult", bool), ("crowd", bool), ("areas", np.float64)):
            values = np.asarray(getattr(self, name), kind).reshape(-1)
            if values.size == 0:
                values = area(self.boxes).astype(np.float64) if name == "areas" else np.zeros(count, kind)
            object.__setattr__(self, name, values)
        lengths = [len(getattr(self, name)) for name in ("labels", "difficult", "crowd", "areas")]
        if set(lengths) != {count}:
            raise ValueError(f"{count} boxes and {lengths} labels, marks, marks and areas differ")

    def __len__(self) -> int:
        return len(self.boxes)

    def where(self, kept: NDArray[np.bool_]) -> Self:
        """Some of the objects: bool [G]."""
        return replace(self, **{f.name: getattr(self, f.name)[kept] for f in fields(self)})


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
