"""Linear SVMs on the last hidden layer instead of the softmax, as in R-CNN (section 5.4; R-CNN, appendix B).

One SVM per class separates its objects from everything else. Positives are the boxes of the objects; negatives are
proposals that overlap every object of the class by less than 0.3. There are too many negatives, so only hard ones are
kept: image by image, those that the current SVM does not reject (margin above -1) are added; from time to time the SVM
is fitted again and easy ones (margin below -1.2) are removed. Features are scaled to a mean norm of 20, positives have
twice the weight, and the bias is a feature of value 10; these constants are those of R-CNN's released code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from frcnn_cli.core.boxes import best_overlap
from frcnn_cli.core.errors import FrcnnError
from frcnn_cli.core.image import Image, ImageRef
from frcnn_cli.core.progress import SILENT, Progress
from frcnn_cli.data.pairing import ProposedSample
from frcnn_cli.detector.detector import Detector
from frcnn_cli.system.prefetch import prefetch

_C = 0.001
_POSITIVE_WEIGHT = 2.0
_BIAS_FEATURE = 10.0
_MEAN_NORM = 20.0
_NEGATIVE_IOU = 0.3
_HARD, _EASY = -1.0, -1.2  # margins above which a negative is added, and below which it is removed
_NORM_IMAGES = 100  # images on which the mean norm is measured

Features = NDArray[np.float32]  # [N, D]


@dataclass
class ClassSVM:
    """The SVM of one class while it is fitted. positives: [N, D]. weight: [D], and bias. refit_after: new negatives."""

    positives: Features
    negatives: list[Features] = field(default_factory=list)
    new: int = 0
    weight: NDArray[np.float64] | None = None
    bias: float = 0.0
    refit_after: int = 2000

    def margins(self, features: Features) -> NDArray[np.float64]:
        """The margins [N] of features [N, D]; before the first fit all 0, so that every negative is hard."""
        if self.weight is None:
            return np.zeros(len(features))
        margins: NDArray[np.float64] = features @ self.weight + self.bias
        return margins

    def mine(self, candidates: Features) -> None:
        """Adds the hard ones among negative candidates [N, D]; fits again when enough were added."""
        hard = candidates[self.margins(candidates) > _HARD]
        if len(hard):
            self.negatives.append(hard)
            self.new += len(hard)
        if self.new > self.refit_after:
            self.fit()

    def fit(self) -> None:
        """Fits the SVM and removes easy negatives."""
        from sklearn.svm import LinearSVC

        negatives = np.concatenate(self.negatives or [np.zeros((0, self.positives.shape[1]), np.float32)])
        if not len(self.positives) or not len(negatives):
            return
        machine = LinearSVC(
            C=_C,
            loss="hinge",
            class_weight={1: _POSITIVE_WEIGHT},
            intercept_scaling=_BIAS_FEATURE,
            random_state=0,
            max_iter=5000,
        )
        machine.fit(
            np.concatenate([self.positives, negatives]),
            np.arange(len(self.positives) + len(negatives)) < len(self.positives),
        )
        self.weight, self.bias = machine.coef_[0].astype(np.float64), float(machine.intercept_[0])
        self.negatives = [negatives[self.margins(negatives) >= _EASY]]
        self.new = 0


def fit_svms(
    detector: Detector,
    samples: Sequence[ProposedSample],
    read: Callable[[ImageRef], Image],
    progress: Progress = SILENT,
) -> None:
    """Replaces the softmax of a detector by SVMs: `cls_score` then gives margins, and that of the background is 0.

    A class without objects has a margin of -1 everywhere.

    Raises:
        FrcnnError: scikit-learn is not installed.
    """
    try:
        import sklearn.svm  # noqa: F401
    except ImportError:
        raise FrcnnError(
            "SVMs are fitted by scikit-learn, which is not installed", "Install it: pip install scikit-learn"
        ) from None
    positives: list[list[Features]] = [[] for _ in detector.classes]
    norms = []
    with progress.task("SVMs", 2 * len(samples)) as bar:
        for number, (sample, features) in enumerate(_features(detector, samples, read, objects=True)):
            for label in np.unique(sample.truth.labels):
                positives[label].append(features[sample.truth.labels == label])
            if number < _NORM_IMAGES and len(features):
                norms.append(np.linalg.norm(features, axis=1))
            bar.advance()
        scale = _MEAN_NORM / max(float(np.concatenate(norms).mean()) if norms else 1.0, 1e-12)
        width = detector.head.cls_score.in_features
        machines = [
            ClassSVM(scale * np.concatenate([*found, np.zeros((0, width), np.float32)]).astype(np.float32))
            for found in positives
        ]
        for sample, features in _features(detector, samples, read, objects=False):
            for label, machine in enumerate(machines):
                objects = sample.truth.boxes[sample.truth.labels == label]
                overlap = best_overlap(sample.proposals, objects)[0]
                machine.mine((scale * features[overlap < _NEGATIVE_IOU]).astype(np.float32))
            bar.advance()
    layer = detector.head.cls_score
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.fill_(-1.0)
        layer.bias[0] = 0.0
        for label, machine in enumerate(machines, 1):
            machine.fit()
            if machine.weight is not None:
                layer.weight[label] = torch.from_numpy(scale * machine.weight).to(layer.weight)
                layer.bias[label] = machine.bias


def _features(
    detector: Detector, samples: Sequence[ProposedSample], read: Callable[[ImageRef], Image], objects: bool
) -> Iterator[tuple[ProposedSample, Features]]:
    """The output of the last hidden layer for the objects of each image, or for its proposals."""
    images = prefetch(read, (sample.ref for sample in samples))
    for sample, image in zip(samples, images, strict=True):
        boxes = sample.truth.boxes if objects else sample.proposals
        maps, scales = detector.feature_map(image, "float32")
        yield sample, detector.vectors(maps, boxes, scales, classify=False)[0]
