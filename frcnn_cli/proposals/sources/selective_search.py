"""Selective search (Uijlings et al., IJCV 2013), our own implementation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.proposals.hook import Image, Proposals, ProposalSource, option
from frcnn_cli.proposals.ranking import content_seed

Colour = Literal["hsv", "lab", "rgi", "hue", "intensity", "rgb"]


class _Preset(NamedTuple):
    colours: tuple[Colour, ...]
    k: tuple[int, ...]
    mixes: tuple[str, ...]
    distinct: float
    agreed: int


# Chosen on 64 photographs of COCO, BCCD trainval, and the boxes that the authors published for a VOC photograph: with
# 100, 300, 1,000 and 2,000 boxes these cover as much as OpenCV's presets of the same names (docs/benchmarks.md).
_PRESETS = {
    "fast": _Preset(("hsv", "lab"), (100, 200), ("CTSF", "TSF", "F"), 0.9, 500),
    "quality": _Preset(("hsv", "lab", "rgb"), (100, 200, 300), ("CTSF", "TSF", "F"), 0.85, 500),
}
_PRESETS_OF_VERSION_1 = {
    "fast": _Preset(("hsv", "lab"), (100, 300), ("CTSF", "TSF"), 0.9, 0),
    "quality": _Preset(("hsv", "lab", "rgb"), (100, 200, 300), ("CTSF", "TSF", "F"), 0.85, 0),
}


@dataclass(frozen=True)
class SelectiveSearch(ProposalSource):
    """Groups of similar regions at many scales: graph segmentation, then hierarchical grouping by colour, texture,
    size and fill."""

    name = "selective-search"
    version = "2"

    preset: Literal["fast", "quality"] = option(
        "fast", help="Sets colours, k, mixes, distinct and agreed, unless they are given."
    )
    colours: tuple[Colour, ...] | None = option(
        None, help="Colour spaces; none: those of the preset (fast: hsv,lab; quality: hsv,lab,rgb)."
    )
    k: tuple[int, ...] | None = option(
        None,
        help="Scales of segmentation; larger values give larger regions; none: those of the preset (fast: 100,200;"
        " quality: 100,200,300).",
        minimum=1,
    )
    mixes: tuple[str, ...] | None = option(
        None,
        help="Mixes of similarities to group by: C(olour), T(exture), S(ize), F(ill); none: those of the preset"
        " (CTSF,TSF,F).",
    )
    distinct: float | None = option(
        None,
        help="Drop a box whose IoU with a better one is greater than this; 1: only duplicates; none: that of the"
        " preset (fast: 0.9; quality: 0.85).",
        minimum=0.1,
        maximum=1.0,
    )
    agreed: int | None = option(
        None,
        help="Number of boxes to rank first because most hierarchies agree on them; 0: all are ranked"
        " as in the paper, by their position in the hierarchy times a random number; none: as in the preset (500).",
        minimum=0,
    )
    sigma: float = option(
        0.8, help="Standard deviation of the blur before segmentation, in pixels.", minimum=0.0, maximum=10.0
    )
    min_region: int | None = option(
        None, help="Minimum size of a region of the segmentation, in pixels; none: the same number as k.", minimum=1
    )
    max_pixels: int = option(
        1_000_000,
        help="Scale larger images down to this many pixels before the search, and the boxes back up; 0: never.",
        minimum=0,
    )
    seed: int = option(0, help="Random seed of the ranking, which also depends on the content of the image.", minimum=0)

    def __post_init__(self) -> None:
        for mix in self.mixes or ():
            if not mix or set(mix) - set("CTSF") or len(set(mix)) < len(mix):
                raise ValueError(f"the mix {mix!r} does not consist of the letters C T S F, each at most once")

    @classmethod
    def restated(cls, version: str, options: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Version 1 had other presets, and no `agreed`."""
        if version != "1":
            return None
        preset = _PRESETS_OF_VERSION_1.get(options.get("preset", "fast"), _PRESETS_OF_VERSION_1["fast"])._asdict()
        given = {name: value for name, value in options.items() if value is not None}
        return {**preset, **given}

    def prepare(self) -> None:
        """Compiles the kernels: 14 s on a new machine, 0.3 s afterwards."""
        self.propose(Image.from_array(np.zeros((16, 16, 3), np.uint8)))

    def is_prepared(self) -> bool:
        from frcnn_cli.proposals.distinct import distinct
        from frcnn_cli.proposals.selective_search import agreement, grouping, lab, regions, segmentation
        from frcnn_cli.system.jit import needs_compiling

        preset = _PRESETS[self.preset]
        ranks = (preset.agreed if self.agreed is None else self.agreed) > 0
        return not needs_compiling(
            *(distinct, *((agreement.support,) if ranks else ()), grouping.group, lab.convert),
            *(regions.atoms, regions.describe, regions.gather, segmentation.sorted_edges, segmentation.segment),
        )

    def propose(self, image: Image) -> Proposals:
        from frcnn_cli.proposals.selective_search.search import selective_search

        preset = _PRESETS[self.preset]
        pixels = self._searched(image.pixels)
        boxes = selective_search(
            pixels,
            self.colours or preset.colours,
            self.k or preset.k,
            self.mixes or preset.mixes,
            self.sigma,
            self.min_region,
            preset.distinct if self.distinct is None else self.distinct,
            preset.agreed if self.agreed is None else self.agreed,
            content_seed(image.pixels) + self.seed,
        )
        scale = np.array([image.width / pixels.shape[1], image.height / pixels.shape[0]] * 2, np.float32)
        return Proposals(boxes * scale if pixels is not image.pixels else boxes)

    def _searched(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The image, scaled down if it is large: the network sees at most half a megapixel of it too, and the time for
        an image with many small regions grows with the square of their number."""
        import cv2

        height, width = pixels.shape[:2]
        if not self.max_pixels or height * width <= self.max_pixels:
            return pixels
        scale = (self.max_pixels / (height * width)) ** 0.5
        size = max(1, round(width * scale)), max(1, round(height * scale))
        return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
