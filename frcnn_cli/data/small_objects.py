"""Objects that are lost because they are small: under the smallest proposals, or after images were scaled down."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.annotations import GroundTruth
from frcnn_cli.core.image import ImageRecord

_WORTH_A_NOTE = 0.02  # of the objects
_MIN_REGION = 10  # pixels: a square of this side is the smallest region that selective search makes with k=100
_MIN_CELL = 16  # resized pixels: a cell of most conv maps
_LOWEST_FLOOR = 5  # pixels; on 64 photographs of COCO, a lower floor found no more objects


class Advice(NamedTuple):
    """what: what costs objects. fix: the option that brings them back."""

    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.what}: {self.fix}"


Scale = Callable[[int, int], float]  # height and width of an image -> resized pixels per original pixel


def advice_on_small_objects(
    truths: Iterable[GroundTruth],
    images: Sequence[ImageRecord],
    proposals: Mapping[str, Any],
    scale_for: Scale | None = None,
) -> list[Advice]:
    """What costs objects of a data set; empty if nothing costs 2% of them.

    Args:
        truths: the objects of each image; difficult ones do not count.
        images: the records of these images, in the same order.
        proposals: the provenance of a proposals file: "min_size", and "source" with its options.
        scale_for: how the network resizes images; None: not considered.
    """
    boxes = [truth.boxes[~truth.difficult] for truth in truths]
    sides = [(some[:, 2:] - some[:, :2]).min(axis=1, initial=np.inf) for some in boxes]
    found = advice_on_floor(sides, float(proposals["min_size"]))
    max_pixels = proposals["source"].get("options", {}).get("max_pixels")
    if max_pixels and proposals["source"]["name"] == "selective-search":
        scales = [min(1.0, (max_pixels / (image.width * image.height)) ** 0.5) for image in images]
        why = f"in the image that selective search reads, scaled down to {max_pixels:,} pixels"
        found += _advice_on_scale(sides, scales, _MIN_REGION, why, "add --set max_pixels=0 to frcnn proposals")
    if scale_for is not None:
        scales = [scale_for(image.height, image.width) for image in images]
        why = "in the resized image that the network reads"
        found += _advice_on_scale(sides, scales, _MIN_CELL, why, "raise --short-side and --long-side")
    return found


def advice_on_floor(sides: Iterable[NDArray[Any]], min_size: float) -> list[Advice]:
    """Advice if many objects are narrower than the smallest proposals.

    Args:
        sides: per image [N], the smaller of width and height of each object. min_size: of proposals; both in pixels.
    """
    every = np.concatenate([*sides, np.zeros(0)])
    below = float((every < min_size).mean()) if len(every) else 0.0
    if below < _WORTH_A_NOTE:
        return []
    better = max(_LOWEST_FLOOR, int(np.quantile(every[every < min_size], 0.1)))
    what = f"{below:.0%} of the objects are narrower than {min_size:g} px, the minimum size of proposals"
    return [Advice(what, f"add --min-size {better} to frcnn proposals")] if better < min_size else []


def _advice_on_scale(
    sides: Sequence[NDArray[Any]], scales: Sequence[float], smallest: int, why: str, fix: str
) -> list[Advice]:
    """Advice if scaling makes many objects narrower than `smallest`."""
    before = np.concatenate([*sides, np.zeros(0)])
    after = np.concatenate([*(side * scale for side, scale in zip(sides, scales, strict=True)), np.zeros(0)])
    lost = float(((after < smallest) & (before >= smallest)).mean()) if len(before) else 0.0
    if lost < _WORTH_A_NOTE:
        return []
    return [Advice(f"{lost:.0%} of the objects are narrower than {smallest} px {why}", fix)]
