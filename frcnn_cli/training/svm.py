"""Linear SVMs on the last hidden layer in place of the softmax, as R-CNN has them (section 5.4; R-CNN, appendix B).

One SVM a class tells its objects from everything else. Positives are the objects' own boxes; negatives are proposals
that overlap every object of the class by less than 0.3. There are too many of those, so only hard ones are kept: image
after image, those that the present SVM does not reject (margin above -1) join; every now and then the SVM is fitted
anew and the easy ones (margin below -1.2) leave. Features are scaled to a mean length of 20, positives count twice, and
the bias is a feature of value 10; the constants are those of R-CNN's released code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from frcnn_cli.boxes import iou
from frcnn_cli.data.prefetch import prefetch
from frcnn_cli.errors import FrcnnError
from frcnn_cli.image import Image, ImageRef
from frcnn_cli.model import Detector
from frcnn_cli.roi.levels import levels, nearest_level
from frcnn_cli.roi.rois import to_rois
from frcnn_cli.training.batches import TrainingImage

_C = 0.001
_POSITIVE_WEIGHT = 2.0
_BIAS_FEATURE = 10.0
_MEAN_LENGTH = 20.0
_NEGATIVE_IOU = 0.3
_HARD, _EASY = -1.0, -1.2  # margins from which a negative joins, and below which it leaves
_RETRAIN_AFTER = 2000  # new negatives of a class
_LENGTH_IMAGES = 100  # whose features tell the mean length

Features = NDArray[np.float32]  # [N, D]


@dataclass
class ClassSVM:
    """The SVM of one class while it is fitted. weight: [D] and bias, of unscaled features."""

    positives: Features
    negatives: list[Features] = field(default_factory=list)
    new: int = 0
    weight: NDArray[np.float64] | None = None
    bias: float = 0.0

    def margins(self, features: Features) -> NDArray[np.float64]:
        """All 0, so that every negative is a hard one, as long as nothing was fitted."""
        if self.weight is None:
            return np.zeros(len(features))
        found: NDArray[np.float64] = features @ self.weight + self.bias
        return found

    def mine(self, candidates: Features) -> None:
        """Takes the hard ones among negatives; fits anew when enough have come."""
        hard = candidates[self.margins(candidates) > _HARD]
        if len(hard):
            self.negatives.append(hard)
            self.new += len(hard)
        if self.new > _RETRAIN_AFTER:
            self.fit()

    def fit(self) -> None:
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
    images: Sequence[TrainingImage],
    read: Callable[[ImageRef], Image],
    tell: Callable[[], None] = lambda: None,
) -> None:
    """Puts SVMs in place of the detector's softmax: `cls_score` gives margins, the background's is 0.

    A class without objects keeps a margin of -1 everywhere.

    Args:
        tell: is called after each image, of which each is looked at twice.

    Raises:
        FrcnnError: scikit-learn is not installed.
    """
    try:
        import sklearn.svm  # noqa: F401
    except ImportError:
        raise FrcnnError(
            "SVMs are fitted by scikit-learn, which is not installed", "pip install scikit-learn"
        ) from None
    classes = len(detector.config.classes)
    positives: list[list[Features]] = [[] for _ in range(classes)]
    lengths = []
    for number, (image, features) in enumerate(_features(detector, images, read, objects=True)):
        for label in np.unique(image.truth.labels):
            positives[label].append(features[image.truth.labels == label])
        if number < _LENGTH_IMAGES and len(features):
            lengths.append(np.linalg.norm(features, axis=1))
        tell()
    scale = _MEAN_LENGTH / max(float(np.concatenate([*lengths, np.zeros(0)]).mean()) if lengths else 1.0, 1e-12)
    width = detector.head.cls_score.in_features
    machines = [
        ClassSVM(scale * np.concatenate([*found, np.zeros((0, width), np.float32)]).astype(np.float32))
        for found in positives
    ]
    for image, features in _features(detector, images, read, objects=False):
        for label, machine in enumerate(machines):
            mine = image.truth.boxes[image.truth.labels == label]
            overlap = iou(image.proposals, mine).max(axis=1, initial=0.0)
            machine.mine((scale * features[overlap < _NEGATIVE_IOU]).astype(np.float32))
        tell()
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
    detector: Detector, images: Sequence[TrainingImage], read: Callable[[ImageRef], Image], objects: bool
) -> Iterator[tuple[TrainingImage, Features]]:
    """The last hidden layer's numbers, of each image's objects or of its proposals."""
    head = detector.head
    pictures = prefetch(read, (image.ref for image in images))
    for image, picture in zip(images, pictures, strict=True):
        boxes = image.truth.boxes if objects else image.proposals
        with torch.inference_mode():
            looks = levels(*detector.feature_map(picture, "float32"))
            level = nearest_level(boxes, [scale for _, scale in looks])
            found = np.empty((len(boxes), head.cls_score.in_features), np.float32)
            for i, (feature_map, scale) in enumerate(looks):
                rois = to_rois(boxes[level == i], scale, pooling=head.pooling).to(detector.device)
                found[level == i] = head.hidden_features(feature_map, rois).float().cpu().numpy()
            yield image, found
