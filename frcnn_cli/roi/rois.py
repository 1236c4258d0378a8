"""The RoIs of a batch: boxes, the image of each, and the scale of each image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from frcnn_cli.core.boxes import Boxes


class RoIs(NamedTuple):
    """Boxes of the images of a batch, as the network reads them.

    boxes: float32 [R, 4], x1 y1 x2 y2 in original pixels.
    image: int64 [R], the index in the batch of the image that each box belongs to.
    scale: float64 [B, 2], resized pixels per original pixel of each image, along x and along y.
    seeds: int64 [B], of the random numbers of each image in training; None: PyTorch's generator.
    """

    boxes: Tensor
    image: Tensor
    scale: Tensor
    seeds: Tensor | None = None

    @classmethod
    def of_images(
        cls,
        boxes: Sequence[Boxes],
        scales: Sequence[float | tuple[float, float]],
        seeds: Sequence[int] | None = None,
    ) -> Self:
        """The boxes [N, 4] of each image, and its scale: one number, or one along x and one along y."""
        image = np.repeat(np.arange(len(boxes)), [len(one) for one in boxes])
        flat: Any = np.concatenate([np.asarray(one, np.float32).reshape(-1, 4) for one in boxes])
        pairs = [scale if isinstance(scale, tuple) else (scale, scale) for scale in scales]
        return cls(
            torch.from_numpy(flat),
            torch.from_numpy(image),
            torch.tensor(pairs, dtype=torch.float64).view(-1, 2),
            None if seeds is None else torch.tensor(seeds, dtype=torch.int64),
        )

    def __len__(self) -> int:
        return len(self.boxes)
