"""Other light on the same picture."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.transforms.v2 import functional as F


class Colours(NamedTuple):
    """Factors of brightness, contrast and saturation; 1 leaves a picture as it is."""

    brightness: float
    contrast: float
    saturation: float

    @classmethod
    def drawn(cls, most: float, rng: np.random.Generator) -> Self:
        """Each factor from 1 - most to 1 + most."""
        return cls(*(float(factor) for factor in rng.uniform(1 - most, 1 + most, 3)))

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8 [H, W, 3] RGB -> the same shape."""
        image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)
        image = F.adjust_brightness(image, self.brightness)
        image = F.adjust_contrast(image, self.contrast)
        image = F.adjust_saturation(image, self.saturation)
        return np.ascontiguousarray(image.permute(1, 2, 0).numpy())
