"""Every number that training depends on, at the values of the authors' code (VOC 2007, VGG16)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from frcnn_cli.errors import UsageError

Schedule = Literal["step", "cosine"]


@dataclass(frozen=True)
class SamplingConfig:
    """A mini-batch's RoIs (section 2.3, "Mini-batch sampling")."""

    rois_per_batch: int = 128  # over all images of the batch
    foreground_fraction: float = 0.25  # at most this share of an image's RoIs
    foreground_iou: float = 0.5  # IoU with an object from which a RoI is foreground
    background_iou: tuple[float, float] = (0.1, 0.5)  # background has its best IoU in [low, high)


@dataclass(frozen=True)
class TrainConfig:
    """How to train. An epoch is one look at each image; every second look is mirrored."""

    epochs: float = 16.0  # 40,000 iterations of 2 images on the 5,011 of VOC 2007 trainval
    images_per_batch: int = 2
    sampling: SamplingConfig = SamplingConfig()
    learning_rate: float = 0.001
    schedule: Schedule = "step"
    warmup: int = 0  # iterations over which the rate rises linearly
    momentum: float = 0.9
    weight_decay: float = 0.0005  # not on biases, whose rate is doubled (the released code; the paper decays both)
    flip: bool = True
    train_on_difficult: bool = True  # as the code of 2015 does
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "images_per_batch", "learning_rate"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name.replace('_', ' ')} must be above 0, not {getattr(self, name)}")
        low, high = self.sampling.background_iou
        if not 0 <= low < high <= 1:
            raise UsageError(f"the range of background IoU [{low:g}, {high:g}) is empty or outside 0 to 1")
        if self.sampling.rois_per_batch < self.images_per_batch:
            raise UsageError("a batch needs at least one RoI an image", "Raise --rois or lower --batch-images")

    def iterations(self, images: int) -> int:
        """Batches until every image was seen `epochs` times."""
        return max(1, round(self.epochs * images / self.images_per_batch))
