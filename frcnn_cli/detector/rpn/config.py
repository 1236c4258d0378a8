"""What a region proposal network needs to know besides its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

_MOST = 20  # levels, conv layers, sizes, ratios; torchvision's detectors have at most 5 of each


@dataclass(frozen=True)
class RPNConfig:
    """The configuration of a region proposal network.

    anchor_sizes: per level, the square roots of the areas of the anchors, in resized pixels. The last level consists of
        every second cell of the last map of the pyramid.
    aspect_ratios: height / width of the anchors.
    convs: number of conv layers before the two outputs.
    per_level: boxes per level before suppression, best first. count: boxes per image after it.
    iou: a box is suppressed if its IoU with a better one of its level is more than this.
    min_score: minimum objectness, a probability.

    Raises:
        ValueError: values out of bounds.
    """

    anchor_sizes: tuple[tuple[int, ...], ...]
    aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    convs: int = 1
    per_level: int = 1000
    count: int = 1000
    iou: float = 0.7
    min_score: float = 0.0

    def __post_init__(self) -> None:
        shapes = (len(self.anchor_sizes), len(self.aspect_ratios), self.convs, *map(len, self.anchor_sizes))
        anchors = f"sizes {self.anchor_sizes} and ratios {self.aspect_ratios}"
        if not all(1 <= number <= _MOST for number in shapes) or len(set(map(len, self.anchor_sizes))) != 1:
            raise ValueError(f"the anchors do not have the same, small number of sizes on each level: {anchors}")
        sides = (*(size for level in self.anchor_sizes for size in level), *self.aspect_ratios)
        if not all(0 < side <= 100_000 for side in sides):
            raise ValueError(f"the anchors are not between 0 and 100,000 pixels: {anchors}")
        if not (1 <= self.per_level <= 1_000_000 and 1 <= self.count <= 1_000_000):
            raise ValueError(f"the numbers of boxes are not valid: {self.per_level} per level, {self.count} per image")
        if not (0 <= self.iou <= 1 and 0 <= self.min_score <= 1):
            raise ValueError(f"not between 0 and 1: an IoU of {self.iou}, or a minimum score of {self.min_score}")

    @property
    def anchors(self) -> int:
        """The number of anchors per cell."""
        return len(self.anchor_sizes[0]) * len(self.aspect_ratios)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `dataclasses.asdict`. Raises KeyError, TypeError or ValueError for wrong values."""
        return cls(
            anchor_sizes=tuple(tuple(int(size) for size in level) for level in values["anchor_sizes"]),
            aspect_ratios=tuple(float(ratio) for ratio in values["aspect_ratios"]),
            convs=int(values["convs"]),
            per_level=int(values["per_level"]),
            count=int(values["count"]),
            iou=float(values["iou"]),
            min_score=float(values["min_score"]),
        )
