"""The mAP of a model in training, on images that it is not trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from frcnn_cli.core.decoding import read_ref
from frcnn_cli.core.image import Image, ImageRef
from frcnn_cli.core.progress import SILENT, Progress
from frcnn_cli.data.pairing import ProposedSample
from frcnn_cli.detector.detector import Detector
from frcnn_cli.evaluation.voc import evaluate
from frcnn_cli.system.prefetch import prefetch
from frcnn_cli.training.ranks import ALONE, Ranks


@dataclass(frozen=True)
class Validation:
    """samples: images with their objects and proposals. read: decodes an image. notes: what was fixed on reading."""

    samples: Sequence[ProposedSample]
    read: Callable[[ImageRef], Image] = read_ref
    notes: tuple[str, ...] = ()

    def mean_ap(self, detector: Detector, progress: Progress = SILENT, ranks: Ranks = ALONE) -> float:
        """mAP at IoU 0.5, with the thresholds for single images; NaN without objects. Each rank detects in its part of
        the images, and all evaluate the detections of all."""
        own = self.samples[ranks.part(len(self.samples))]
        found = {}
        images = prefetch(self.read, (sample.ref for sample in own))
        with progress.task("validate", len(own)) as bar:
            for sample, image in zip(own, images, strict=True):
                found[sample.ref.key] = detector.detect(image, sample.proposals, dtype="float32")
                bar.advance()
        truths = {sample.ref.key: sample.truth for sample in self.samples}
        return evaluate(ranks.merged(found), truths, detector.classes).mean_ap
