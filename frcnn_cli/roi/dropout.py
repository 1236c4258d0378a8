"""Dropout that depends on the image of each RoI and not on the batch around it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from frcnn_cli.roi.rois import RoIs


class RoIDropout:
    """Dropout (Srivastava et al., 2014) for the RoIs of one batch.

    Every image has its own random numbers, so a RoI loses the same units whichever process computes its image, and
    whichever images share the batch. RoIs without seeds use PyTorch's generator.
    """

    def __init__(self, probability: float, rois: RoIs) -> None:
        """
        Args:
            rois: sorted by image.
        """
        self.probability = probability
        self.seeds = None if rois.seeds is None else rois.seeds.tolist()
        self.counts = torch.bincount(rois.image, minlength=len(rois.scale)).tolist()
        self.generators: list[torch.Generator] = []

    def __call__(self, x: Tensor) -> Tensor:
        """[R, D] -> [R, D]. Further calls, for further layers, continue with the random numbers of each image."""
        if self.seeds is None or self.probability == 0:
            return F.dropout(x, self.probability)
        if not self.generators:
            self.generators = [torch.Generator(x.device).manual_seed(seed) for seed in self.seeds]
        drawn = [
            torch.rand(count, x.shape[1], generator=generator, device=x.device)
            for count, generator in zip(self.counts, self.generators, strict=True)
        ]
        return x * ((torch.cat(drawn) >= self.probability) / (1 - self.probability)).to(x.dtype)
