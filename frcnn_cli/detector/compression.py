"""Smaller hidden layers by truncated SVD (Fast R-CNN, section 3.1): choosing the ranks, and what they cost and save."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from frcnn_cli.core.annotations import GroundTruth
from frcnn_cli.core.boxes import Boxes
from frcnn_cli.core.errors import FrcnnError, UsageError
from frcnn_cli.core.progress import SILENT, Progress
from frcnn_cli.detector.detector import Detector
from frcnn_cli.evaluation.voc import evaluate
from frcnn_cli.roi.head import HIDDEN
from frcnn_cli.roi.levels import Maps, Scales, as_tuple
from frcnn_cli.roi.svd import Spectrum, largest_useful_rank, spectrum, truncated

_STEP = 16  # a search tries ranks that are multiples of this


@dataclass(frozen=True)
class MappedSample:
    """One validation image after the conv layers: its maps and scales (see `roi.levels`), its proposals [N, 4], its
    size in pixels, and its objects."""

    maps: Maps
    boxes: Boxes
    scales: Scales
    height: int
    width: int
    truth: GroundTruth


@dataclass
class Compressor:
    """Makes models with hidden layers of lower rank from one model.

    Raises:
        UsageError: the model is compressed or rounded already, or has no fully connected hidden layers.
        FrcnnError: its weights are not finite.
    """

    detector: Detector
    _spectra: dict[str, Spectrum] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.detector.config.ranks:
            raise UsageError("the model is compressed already", "Compress the model that it was made from")
        if self.detector.rounded:
            raise UsageError("the model was rounded to another precision", "Load it in float32")
        if not set(HIDDEN) <= set(self.detector.head.hidden_layers()):
            backbone = self.detector.config.network.backbone
            raise UsageError(
                f"{backbone} has no fully connected hidden layers to compress", "Its head consists of conv layers"
            )
        for name in HIDDEN:
            if not bool(torch.isfinite(self.layer(name).weight).all()):
                raise FrcnnError(f"the weights of {name} hold NaN or infinity", "Train the model again from scratch")

    def layer(self, name: str) -> nn.Linear:
        """A hidden layer of the original model."""
        layer = getattr(self.detector.head, name)
        assert isinstance(layer, nn.Linear)
        return layer

    def spectrum(self, name: str) -> Spectrum:
        """The singular values of a hidden layer; computed once."""
        if name not in self._spectra:
            self._spectra[name] = spectrum(self.layer(name).weight)
        return self._spectra[name]

    def ranks_for(self, energy: float) -> dict[str, int]:
        """The smallest ranks that keep this share of each layer's squared singular values. A layer that would then
        need more multiplications than before is not compressed."""
        ranks = {name: self.spectrum(name).rank_for(energy) for name in HIDDEN}
        return {name: rank for name, rank in ranks.items() if rank <= largest_useful_rank(self.layer(name))}

    def compressed(self, ranks: Mapping[str, int]) -> Detector:
        """A model with these ranks. Layers that are not replaced share their memory with the original model.

        Raises:
            UsageError: an unknown layer, or an impossible rank.
        """
        head = copy.copy(self.detector.head)
        head._modules = dict(head._modules)
        for name, rank in ranks.items():
            if name not in HIDDEN:
                raise UsageError(f"there is no layer {name!r}", f"Name {' or '.join(HIDDEN)}")
            try:
                setattr(head, name, truncated(self.layer(name), rank, self.spectrum(name)))
            except ValueError as error:
                raise UsageError(f"{name}: {error}") from None
        made = copy.copy(self.detector)
        made._modules = {**made._modules, "head": head}
        made.config = dataclasses.replace(self.detector.config, ranks=dict(ranks))
        return made

    def smallest_ranks(
        self,
        mean_ap: Callable[[Detector], float],
        min_mean_ap: float,
        on_trial: Callable[[Mapping[str, int], float], None] = lambda ranks, reached: None,
    ) -> dict[str, int]:
        """One layer after the other, the smallest rank with a mAP of at least `min_mean_ap`.

        A bisection over multiples of 16, which assumes that mAP increases with the rank. A layer for which no useful
        rank is good enough is not compressed.

        Args:
            on_trial: called with the ranks and the mAP of every trial.
        """
        found: dict[str, int] = {}

        def good(name: str, rank: int) -> bool:
            trial = {**found, name: rank}
            reached = mean_ap(self.compressed(trial))
            on_trial(trial, reached)
            return reached >= min_mean_ap

        for name in HIDDEN:
            high = largest_useful_rank(self.layer(name)) // _STEP
            if high < 1 or not good(name, high * _STEP):
                continue
            low = 0  # too small; `high` is sufficient
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if good(name, middle * _STEP) else (middle, high)
            found[name] = high * _STEP
        return found


def mean_ap(
    detector: Detector, images: Sequence[MappedSample], title: str = "evaluate", progress: Progress = SILENT
) -> float:
    """The mAP of a detector on images whose conv maps are known."""
    found, truths = {}, {}
    with progress.task(title, len(images)) as bar:
        for number, image in enumerate(images):
            found[str(number)] = detector.detect_in_maps(
                image.maps, image.boxes, image.scales, image.height, image.width
            )
            truths[str(number)] = image.truth
            bar.advance()
    return evaluate(found, truths, detector.classes).mean_ap


def milliseconds(detectors: Sequence[Detector], images: Iterable[MappedSample]) -> list[float]:
    """Milliseconds per image from conv map to scores: the median of each detector. They take turns, after a warm-up."""
    images = list(images)
    taken: list[list[float]] = [[] for _ in detectors]
    for image in (images[0], *images):
        for detector, times in zip(detectors, taken, strict=True):
            began = time.perf_counter()
            detector.score(image.maps, image.boxes, image.scales, image.height, image.width)
            times.append(1000 * (time.perf_counter() - began))
    return [float(np.median(times[1:])) for times in taken]


def random_image(detector: Detector, rois: int = 2000) -> MappedSample:
    """A map of random numbers for an image of 600 x 800 pixels, and random RoIs: for timing without data."""
    rng = np.random.default_rng(0)
    corners = np.sort(rng.uniform(0, [[[800], [600]]], (rois, 2, 2)), axis=2)
    boxes = np.concatenate([corners[:, :, 0], corners[:, :, 1] + 1], axis=1).astype(np.float32)
    with torch.inference_mode():
        channels = as_tuple(detector.features(torch.zeros(1, 3, 64, 64, device=detector.device)))[0].shape[1]
    nothing = GroundTruth(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    sizes = [(600 // stride, 800 // stride) for stride in detector.head.pooler.strides]
    maps = [torch.rand(1, channels, *size).contiguous(memory_format=torch.channels_last) for size in sizes]
    return MappedSample(maps[0] if len(maps) == 1 else tuple(maps), boxes, 1.0, 601, 801, nothing)
