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


@dataclass(frozen=True)
class Validation:
    """samples: images with their objects and proposals. read: decodes an image. notes: what was fixed on reading."""

    samples: Sequence[ProposedSample]
    read: Callable[[ImageRef], Image] = read_ref
    notes: tuple[str, ...] = ()

    def mean_ap(self, detector: Detector, progress: Progress = SILENT) -> float:
        """mAP at IoU 0.5, with the thresholds for single images; NaN without objects."""
        found, truths = {}, {}
        images = prefetch(self.read, (sample.ref for sample in self.samples))
        with progress.task("validate", len(self.samples)) as bar:
            for sample, image in zip(self.samples, images, strict=True):
                found[sample.ref.key] = detector.detect(image, sample.proposals, dtype="float32")
                truths[sample.ref.key] = sample.truth
                bar.advance()
        return evaluate(found, truths, detector.classes).mean_ap
