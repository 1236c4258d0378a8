"""Selective search (Uijlings et al., IJCV 2013) in the implementation of OpenCV's contributed modules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from frcnn_cli.core.boxes import from_xywh
from frcnn_cli.proposals.hook import Image, Proposals, ProposalSource, option
from frcnn_cli.proposals.ranking import by_size_and_chance, content_seed


@dataclass(frozen=True)
class OpenCVSelectiveSearch(ProposalSource):
    """OpenCV's selective search (ximgproc): groups of similar regions at many scales."""

    name = "opencv-selective-search"
    version = "1"

    mode: Literal["fast", "quality", "single"] = option(
        "fast",
        help="fast: 2 colour spaces and 3 scales; quality: 5 and 5, with more similarities; single: 1 of each.",
    )
    base_k: int = option(150, help="Scale of the first segmentation; larger values give larger regions.", minimum=1)
    sigma: float = option(
        0.8, help="Standard deviation of the blur before segmentation, in pixels.", minimum=0.01, maximum=10.0
    )

    def propose(self, image: Image) -> Proposals:
        import cv2

        search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
        search.setBaseImage(image.pixels[..., ::-1].copy())  # OpenCV expects BGR
        if self.mode == "fast":
            search.switchToSelectiveSearchFast(base_k=self.base_k, sigma=self.sigma)
        elif self.mode == "quality":
            search.switchToSelectiveSearchQuality(base_k=self.base_k, sigma=self.sigma)
        else:
            search.switchToSingleStrategy(k=self.base_k, sigma=self.sigma)
        # OpenCV returns the same set of boxes in every call, but in an order that depends on C rand(): rank them again.
        boxes = from_xywh(np.asarray(search.process()))
        return Proposals(boxes[by_size_and_chance(boxes, content_seed(image.pixels))])
