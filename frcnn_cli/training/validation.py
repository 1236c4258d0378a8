"""How well a model in training detects, on images that it does not learn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from frcnn_cli.data.prefetch import prefetch
from frcnn_cli.detections.nms import detect
from frcnn_cli.evaluation.voc import evaluate
from frcnn_cli.image import Image, ImageRef
from frcnn_cli.model import Detector
from frcnn_cli.training.batches import TrainingImage


@dataclass(frozen=True)
class Validation:
    """images: with their objects and proposals. read: decodes one."""

    images: Sequence[TrainingImage]
    read: Callable[[ImageRef], Image]

    def mean_ap(self, detector: Detector, tell: Callable[[], None] = lambda: None) -> float:
        """mAP at IoU 0.5, each image by itself; NaN where there is no object to find.

        Args:
            tell: is called after each image.
        """
        found, truths = {}, {}
        pictures = prefetch(self.read, (image.ref for image in self.images))
        for image, picture in zip(self.images, pictures, strict=True):
            features, scale = detector.feature_map(picture, "float32")
            scores = detector.score(features, image.proposals, scale, picture.height, picture.width)
            found[image.ref.key] = detect(*scores, detector.thresholds)
            truths[image.ref.key] = image.truth
            tell()
        return evaluate(found, truths, detector.config.classes).mean_ap
