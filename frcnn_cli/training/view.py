"""Augmentation: one random view of an image, applied to its pixels, its RoIs and the matched boxes."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from frcnn_cli.core.boxes import Boxes, flip_horizontally
from frcnn_cli.recipes.sections import Images


class ColourJitter(NamedTuple):
    """Factors of brightness, contrast and saturation; 1 changes nothing."""

    brightness: float
    contrast: float
    saturation: float

    @classmethod
    def draw(cls, amount: float, rng: np.random.Generator) -> Self:
        """Each factor uniformly from 1 - amount to 1 + amount."""
        return cls(*(float(factor) for factor in rng.uniform(1 - amount, 1 + amount, 3)))

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8 [H, W, 3] RGB -> the same shape."""
        from torchvision.transforms.v2 import functional as F  # imported late: it imports torch._dynamo

        image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)
        image = F.adjust_brightness(image, self.brightness)
        image = F.adjust_contrast(image, self.contrast)
        image = F.adjust_saturation(image, self.saturation)
        return np.ascontiguousarray(image.permute(1, 2, 0).numpy())


class View(NamedTuple):
    """How an image is seen in one mini-batch.

    flip: whether it is mirrored. short_side: its size, None: as in detection. colours: None: unchanged.
    """

    flip: bool
    short_side: int | None = None
    colours: ColourJitter | None = None

    @classmethod
    def draw(cls, config: Images, flip: bool, rng: np.random.Generator) -> Self:
        """A random view. Options that the recipe does not use draw no random numbers."""
        side = int(rng.choice(config.train_short_sides)) if config.train_short_sides else None
        colours = ColourJitter.draw(config.colour_jitter, rng) if config.colour_jitter else None
        return cls(flip, side, colours)

    def of_pixels(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8 [H, W, 3] RGB -> the same shape."""
        if self.flip:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
        return self.colours(pixels) if self.colours is not None else pixels

    def of_boxes(self, *boxes: Boxes, width: int) -> list[Boxes]:
        """Boxes [N, 4] of an original image of this width, as they are in this view."""
        return [flip_horizontally(one, width) if self.flip else one for one in boxes]
