"""Selective search (Uijlings et al., IJCV 2013) as OpenCV's contributed modules have it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from frcnn_cli.boxes import from_xywh
from frcnn_cli.proposals.hook import Image, Proposals, ProposalSource, option
from frcnn_cli.proposals.ranking import by_size_and_chance, content_seed


@dataclass(frozen=True)
class OpenCVSelectiveSearch(ProposalSource):
    """Selective search of OpenCV (ximgproc): groups of similar regions, at many scales."""

    name = "opencv-selective-search"
    version = "1"

    mode: Literal["fast", "quality", "single"] = option(
        "fast", help="fast: 2 colour spaces, 3 scales; quality: 5 and 4, with more mixes of similarities; single: 1"
    )
    base_k: int = option(150, help="scale of the first segmentation: larger makes larger regions", minimum=1)
    sigma: float = option(0.8, help="blur before segmentation, in pixels", minimum=0.01, maximum=10.0)

    def propose(self, image: Image) -> Proposals:
        import cv2

        search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
        search.setBaseImage(image.pixels[..., ::-1].copy())  # OpenCV counts colours in BGR
        if self.mode == "fast":
            search.switchToSelectiveSearchFast(base_k=self.base_k, sigma=self.sigma)
        elif self.mode == "quality":
            search.switchToSelectiveSearchQuality(base_k=self.base_k, sigma=self.sigma)
        else:
            search.switchToSingleStrategy(k=self.base_k, sigma=self.sigma)
        # The same set of boxes in every call, but in an order drawn from C rand(): rank them anew.
        boxes = from_xywh(np.asarray(search.process()))
        return Proposals(boxes[by_size_and_chance(boxes, content_seed(image.pixels))])
