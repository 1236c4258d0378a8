"""Labelled boxes of one image: its objects (ground truth), and what a detector reports (detections).

Labels are integers 0 .. K-1 that index a tuple of K class names; the background has no label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.boxes import Boxes, area, as_boxes
from frcnn_cli.core.equality import ArrayRecord

if TYPE_CHECKING:
    from frcnn_cli.core.decoding import AnyImage


def _none() -> NDArray[Any]:
    return np.zeros(0)


@dataclass(frozen=True, eq=False)
class GroundTruth(ArrayRecord):
    """The objects of one image.

    boxes: float32 [G, 4], x1 y1 x2 y2 in original pixels.
    labels: int64 [G].
    difficult: bool [G], VOC's mark for objects that evaluation ignores.
    crowd: bool [G], COCO's mark for one box around many objects; crowds are difficult too.
    areas: float64 [G] in square pixels, COCO's area of the outline, or the area of the box.

    The last three are optional.

    Raises:
        ValueError: arrays of different lengths, boxes that are not finite, or negative labels.
    """

    boxes: Boxes
    labels: NDArray[np.int64]
    difficult: NDArray[np.bool_] = field(default_factory=_none)
    crowd: NDArray[np.bool_] = field(default_factory=_none)
    areas: NDArray[np.float64] = field(default_factory=_none)

    def __post_init__(self) -> None:
        object.__setattr__(self, "boxes", as_boxes(self.boxes))
        object.__setattr__(self, "labels", _as_labels(self.labels))
        count = len(self.boxes)
        for name, kind in (("difficult", bool), ("crowd", bool), ("areas", np.float64)):
            values = np.asarray(getattr(self, name), kind).reshape(-1)
            if values.size == 0:
                values = area(self.boxes).astype(np.float64) if name == "areas" else np.zeros(count, kind)
            object.__setattr__(self, name, values)
        lengths = [len(getattr(self, name)) for name in ("labels", "difficult", "crowd", "areas")]
        if set(lengths) != {count}:
            raise ValueError(f"{count} boxes, but {lengths} labels, difficult marks, crowd marks and areas")

    def __len__(self) -> int:
        return len(self.boxes)

    def where(self, kept: NDArray[np.bool_]) -> Self:
        """The objects selected by a mask, bool [G]."""
        return replace(self, **{f.name: getattr(self, f.name)[kept] for f in fields(self)})


@dataclass(frozen=True, eq=False, repr=False)
class Detections(ArrayRecord):
    """What a detector found in one image, by descending score.

    boxes: float32 [D, 4], x1 y1 x2 y2 in original pixels.
    scores: float32 [D], finite; probabilities in [0, 1] from our detectors (other tools may write any number).
    labels: int64 [D].
    classes: the K class names that labels index; empty if unknown.
    proposals: int64 [D], the index of the proposal that each box was refined from; empty if unknown.

    Raises:
        ValueError: arrays of different lengths, boxes or scores that are not finite, or labels outside the classes.
    """

    boxes: Boxes
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    classes: tuple[str, ...] = field(default=(), compare=False)
    proposals: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64), compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "boxes", as_boxes(self.boxes))
        object.__setattr__(self, "proposals", _as_labels(self.proposals))
        object.__setattr__(self, "scores", np.asarray(self.scores, np.float32).reshape(-1))
        object.__setattr__(self, "labels", _as_labels(self.labels))
        object.__setattr__(self, "classes", tuple(self.classes))
        if not len(self.boxes) == len(self.scores) == len(self.labels):
            raise ValueError(f"{len(self.boxes)} boxes, but {len(self.scores)} scores and {len(self.labels)} labels")
        if len(self.proposals) not in (0, len(self.boxes)):
            raise ValueError(f"{len(self.boxes)} boxes, but the indices of {len(self.proposals)} proposals")
        if not np.isfinite(self.scores).all():
            raise ValueError("scores hold NaN or infinity")
        if self.classes and len(self.labels) and self.labels.max() >= len(self.classes):
            raise ValueError(f"label {self.labels.max()}, but there are only {len(self.classes)} classes")

    def __len__(self) -> int:
        return len(self.boxes)

    def __repr__(self) -> str:
        counts = dict(zip(*np.unique(self.names, return_counts=True), strict=True)) if self.classes else {}
        of_class = "".join(f", {count} {name}" for name, count in counts.items())
        best = f", best score {self.scores.max():.3f}" if len(self) else ""
        return f"Detections({len(self)} boxes{of_class}{best})"

    @property
    def names(self) -> NDArray[np.str_]:
        """The class name of each detection: text [D].

        Raises:
            ValueError: the class names are unknown.
        """
        if not self.classes and len(self):
            raise ValueError("the class names are unknown: pass classes=(...) to Detections")
        return np.array(self.classes or ("",), np.str_)[self.labels]

    def where(self, kept: NDArray[np.bool_]) -> Self:
        """The detections selected by a mask, bool [D], for example `found.where(found.scores > 0.5)`.

        Raises:
            ValueError: not a mask of the right length.
        """
        kept = np.asarray(kept)
        if kept.dtype != bool or kept.shape != (len(self),):
            raise ValueError(f"expected a mask, bool [{len(self)}], got {kept.dtype} {list(kept.shape)}")
        indices = self.proposals[kept] if len(self.proposals) else self.proposals
        return replace(
            self, boxes=self.boxes[kept], scores=self.scores[kept], labels=self.labels[kept], proposals=indices
        )

    def with_classes(self, classes: Sequence[str]) -> Self:
        """The same detections with class names."""
        return replace(self, classes=tuple(classes))

    def of_classes(self, classes: Sequence[str]) -> Self:
        """The detections of some classes, with labels that index these."""
        new = np.array([classes.index(name) if name in classes else -1 for name in self.classes], np.int64)
        kept = new[self.labels] >= 0
        some = self.where(kept)
        return replace(some, labels=new[some.labels], classes=tuple(classes))

    def plot(self, image: AnyImage, path: str | Path | None = None) -> NDArray[np.uint8]:
        """The image with a box, class and score per detection, the best on top: uint8 [H, W, 3] RGB.

            found = detector.detect("img.jpg")
            found.where(found.scores > 0.5).plot("img.jpg", "img-detections.jpg")

        Args:
            image: an `Image`, a path, a PIL image, or uint8 [H, W, 3] RGB.
            path: a file to save the picture to; its ending gives the format.

        Raises:
            ImageError: the image cannot be read. FrcnnError: the file cannot be written, or has an unknown ending.
        """
        from frcnn_cli.core.decoding import as_image
        from frcnn_cli.core.drawing import draw_detections
        from frcnn_cli.core.files import save_image

        pixels = draw_detections(as_image(image).pixels, self)
        if path is not None:
            save_image(pixels, Path(path))
        return pixels


def _as_labels(values: Any) -> NDArray[np.int64]:
    labels = np.asarray(values)
    if labels.size and (labels.dtype.kind not in "iuf" or not np.array_equal(labels, np.trunc(labels))):
        raise ValueError(f"expected whole numbers as labels, got {labels.dtype}")
    labels = labels.astype(np.int64).reshape(-1)
    if len(labels) and labels.min() < 0:
        raise ValueError(f"label {labels.min()} is negative; labels count from 0, the background has none")
    return labels
