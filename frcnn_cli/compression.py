"""Smaller hidden layers by truncated SVD (Fast R-CNN, section 3.1): which ranks, and what they cost and bring."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from frcnn_cli.annotations import GroundTruth
from frcnn_cli.boxes import Boxes
from frcnn_cli.detections.nms import detect
from frcnn_cli.errors import FrcnnError, UsageError
from frcnn_cli.evaluation.voc import evaluate
from frcnn_cli.model import Detector
from frcnn_cli.roi.head import HIDDEN
from frcnn_cli.roi.levels import Maps, Scales
from frcnn_cli.roi.svd import Spectrum, largest_useful_rank, spectrum, truncated

_STEP = 16  # ranks that a search tries are multiples of this


@dataclass(frozen=True)
class Scene:
    """One validation image, past the conv layers: its map, its proposals, its objects. scale, height and width as
    `roi.score.score` has them."""

    features: Maps
    boxes: Boxes
    scale: Scales
    height: int
    width: int
    truth: GroundTruth


@dataclass
class Compressor:
    """Makes models with hidden layers of lower rank out of one."""

    detector: Detector
    _spectra: dict[str, Spectrum] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.detector.config.ranks:
            raise UsageError("the model is compressed already", "Compress the one that it was made from")
        if self.detector.precision != "float32":
            raise UsageError(f"the model is rounded to {self.detector.precision}", "Load it in float32")
        if not set(HIDDEN) <= set(self.detector.head.hidden):
            backbone = self.detector.config.network.backbone
            raise UsageError(f"{backbone} has no fully connected hidden layers to compress", "Its head is of convs")
        for name in HIDDEN:
            if not bool(torch.isfinite(self.layer(name).weight).all()):
                raise FrcnnError(f"the weights of {name} hold NaN or infinity", "Train the model anew")

    def layer(self, name: str) -> nn.Linear:
        layer = getattr(self.detector.head, name)
        assert isinstance(layer, nn.Linear)
        return layer

    def spectrum(self, name: str) -> Spectrum:
        if name not in self._spectra:
            self._spectra[name] = spectrum(self.layer(name).weight)
        return self._spectra[name]

    def ranks_for(self, energy: float) -> dict[str, int]:
        """The smallest ranks that keep this share of each layer's squared singular values; a layer that would take
        more multiplications than before stays whole."""
        ranks = {name: self.spectrum(name).rank_for(energy) for name in HIDDEN}
        return {name: rank for name, rank in ranks.items() if rank <= largest_useful_rank(self.layer(name))}

    def compressed(self, ranks: Mapping[str, int]) -> Detector:
        """A model of its own; only the layers that are not replaced share their memory with the old one.

        Raises:
            UsageError: a layer that there is not, or a rank that it cannot have.
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
        self, mean_ap: Callable[[Detector], float], least: float, tell: Callable[[Mapping[str, int], float], None]
    ) -> dict[str, int]:
        """The ranks, one layer after the other, each the smallest whose mAP is at least `least`.

        A bisection over multiples of 16, which takes mAP to rise with rank; a layer that no useful rank replaces stays.

        Args:
            tell: is handed every trial and its mAP.
        """
        found: dict[str, int] = {}

        def good(name: str, rank: int) -> bool:
            trial = {**found, name: rank}
            reached = mean_ap(self.compressed(trial))
            tell(trial, reached)
            return reached >= least

        for name in HIDDEN:
            high = largest_useful_rank(self.layer(name)) // _STEP
            if high < 1 or not good(name, high * _STEP):
                continue
            low = 0  # too small; `high` is enough
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if good(name, middle * _STEP) else (middle, high)
            found[name] = high * _STEP
        return found


def mean_ap(detector: Detector, scenes: Iterable[Scene], tell: Callable[[], None] = lambda: None) -> float:
    """Scores all proposals of each scene and evaluates the detections.

    Args:
        tell: is called after each scene.
    """
    found, truths = {}, {}
    for number, scene in enumerate(scenes):
        scores = detector.score(scene.features, scene.boxes, scene.scale, scene.height, scene.width)
        found[str(number)], truths[str(number)] = detect(*scores, detector.thresholds), scene.truth
        tell()
    return evaluate(found, truths, detector.config.classes).mean_ap


def milliseconds(detectors: Sequence[Detector], scenes: Sequence[Scene]) -> list[float]:
    """What each detector takes for an image, from its conv map to its scores: medians, in turns, after a warm-up."""
    taken: list[list[float]] = [[] for _ in detectors]
    for scene in (scenes[0], *scenes):
        for detector, times in zip(detectors, taken, strict=True):
            began = time.perf_counter()
            detector.score(scene.features, scene.boxes, scene.scale, scene.height, scene.width)
            times.append(1000 * (time.perf_counter() - began))
    return [float(np.median(times[1:])) for times in taken]


def made_up_scene(detector: Detector, rois: int = 2000) -> Scene:
    """A map of noise for a picture of 600 x 800, and random RoIs: for timing where there is no data."""
    rng = np.random.default_rng(0)
    corners = np.sort(rng.uniform(0, [[[800], [600]]], (rois, 2, 2)), axis=2)
    boxes = np.concatenate([corners[:, :, 0], corners[:, :, 1] + 1], axis=1).astype(np.float32)
    with torch.inference_mode():
        channels = detector.conv(torch.zeros(1, 3, 64, 64, device=detector.device)).shape[1]
    nothing = GroundTruth(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    features = torch.rand(1, channels, 600 // detector.head.stride, 800 // detector.head.stride)
    return Scene(features.contiguous(memory_format=torch.channels_last), boxes, 1.0, 601, 801, nothing)
