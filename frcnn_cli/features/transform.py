"""From pixels to what a backbone expects: normalised, then resized."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB values in 0..1; torchvision's weights were trained with them
IMAGENET_STD = (0.229, 0.224, 0.225)
CAFFE_MEAN = (122.7717 / 255, 115.9465 / 255, 102.9801 / 255)  # of RGB; the Caffe models read BGR, 0 to 255
_MULTIPLE = 32  # pixels, to which torchvision's detectors pad images
_LEVELS = np.arange(256, dtype=np.uint8)[:, None]  # the values of a channel
_MIN_SIDE = 64  # pixels; the maps of smaller images vanish in some backbones


@dataclass(frozen=True)
class ImageTransform:
    """Scale by the short side, bounded by the long one (Fast R-CNN, section 5.2: 600 and 1000), and normalise.

    short_side, long_side: pixels; with `short_side` 0, images keep their original size.
    mean, std: of RGB values in 0..1.
    bgr: whether the network reads the channels in the order blue, green, red.
    resizing: "exact", or "torchvision": sides are whole numbers of pixels, and padded to multiples of 32.

    Raises:
        ValueError: a side outside 0 to 10,000 pixels.
    """

    short_side: int = 600
    long_side: int = 1000
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    bgr: bool = False
    resizing: Literal["exact", "torchvision"] = "exact"

    @classmethod
    def as_trained(
        cls,
        normalisation: str,
        short_side: int = 600,
        long_side: int = 1000,
        resizing: Literal["exact", "torchvision"] = "exact",
    ) -> Self:
        """The transform for weights that were trained by "torchvision" or by "caffe"."""
        if normalisation == "torchvision":
            return cls(short_side, long_side, resizing=resizing)
        return cls(short_side, long_side, CAFFE_MEAN, (1 / 255,) * 3, bgr=True, resizing=resizing)

    def __post_init__(self) -> None:
        for name in ("short_side", "long_side"):
            side = getattr(self, name)
            if not isinstance(side, int) or not 0 <= side <= 10_000:
                raise ValueError(f"{name} is {side!r}, not a number of pixels up to 10,000")
        if self.resizing not in ("exact", "torchvision"):
            raise ValueError(f"resizing is {self.resizing!r}")

    def scale_for(self, height: int, width: int) -> float:
        """Resized pixels per original pixel: the short side becomes `short_side`, unless the long side would then
        exceed `long_side`."""
        if self.short_side == 0:
            return 1.0
        short, long = min(height, width), max(height, width)
        scale = self.short_side / short
        if round(scale * long) > self.long_side:
            scale = self.long_side / long
        return scale

    def __call__(self, pixels: NDArray[np.uint8]) -> tuple[Tensor, float | tuple[float, float]]:
        """uint8 [H, W, 3] RGB -> float32 [3, h, w] and the scale; if `resizing` is "torchvision", one along x and one
        along y.

        The image is normalised before it is resized (bilinear, no smoothing), in the order of the authors' code. Pixels
        are sampled at the scale itself, also where a side is rounded to whole pixels. An image that is then
        less than 64 pixels wide or high is padded with zeros on the right and bottom.
        """
        if self.resizing == "torchvision":
            return self._as_torchvision(pixels)
        scale = self.scale_for(*pixels.shape[:2])
        factor = np.float32(1) / (255 * np.array(self.std, np.float32))
        values = _looked_up(pixels, (_LEVELS - 255 * np.array(self.mean, np.float32)) * factor)
        if scale != 1.0:
            values = _resized(values, scale)
        padding = [(0, max(0, _MIN_SIDE - side)) for side in values.shape[:2]]
        if any(after for _, after in padding):
            values = np.pad(values, [*padding, (0, 0)])
        if self.bgr:
            values = values[:, :, ::-1]
        return torch.from_numpy(np.ascontiguousarray(values)).permute(2, 0, 1), scale

    def _as_torchvision(self, pixels: NDArray[np.uint8]) -> tuple[Tensor, tuple[float, float]]:
        """The operations of torchvision's `GeneralizedRCNNTransform`, in its order and precision."""
        levels = torch.from_numpy(_LEVELS).float() / 255
        table = (levels - torch.tensor(self.mean)) / torch.tensor(self.std)
        image = torch.from_numpy(_looked_up(pixels, table.numpy())).permute(2, 0, 1)  # channels last in memory
        height, width = pixels.shape[:2]
        if self.short_side:
            scale = min(self.short_side / min(height, width), self.long_side / max(height, width))
            if min(height, width) * scale < 1:  # torchvision refuses such images
                size = (max(1, int(height * scale)), max(1, int(width * scale)))
                image = F.interpolate(image[None], size, mode="bilinear", align_corners=False)[0]
            else:
                image = F.interpolate(
                    image[None], scale_factor=scale, mode="bilinear", recompute_scale_factor=True, align_corners=False
                )[0]
        high, wide = image.shape[1:]
        image = F.pad(image, (0, -wide % _MULTIPLE, 0, -high % _MULTIPLE))
        image = image[None].contiguous(memory_format=torch.channels_last)[0]
        return image.flip(0) if self.bgr else image, (wide / width, high / height)


def _looked_up(pixels: NDArray[np.uint8], table: NDArray[np.float32]) -> NDArray[np.float32]:
    """The pixels normalised: a channel has only 256 values. table: float32 [256, 3]. Returns float32 [H, W, 3]."""
    import cv2

    if not pixels.size:
        return np.zeros(pixels.shape, np.float32)
    return np.asarray(cv2.LUT(np.ascontiguousarray(pixels), table[None]))


def _resized(values: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    import cv2

    if min(round(side * scale) for side in values.shape[:2]) < 1:  # OpenCV makes no image without pixels
        size = (max(1, round(values.shape[1] * scale)), max(1, round(values.shape[0] * scale)))
        return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_LINEAR))
    return np.asarray(cv2.resize(values, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR))
