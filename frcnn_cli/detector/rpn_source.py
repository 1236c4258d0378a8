"""A region proposal network as a proposal source, through the same hook as all others.

`[project.entry-points.frcnn]` in pyproject.toml names this module. Every command imports it, so it imports torch only
when boxes are proposed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from frcnn_cli.core.run_files import model_path
from frcnn_cli.detector.pretrained.models import is_pretrained
from frcnn_cli.proposals.hook import FrcnnError, Image, Proposals, ProposalSource, UsageError, hookimpl, option

if TYPE_CHECKING:
    from frcnn_cli.detector.detector import Detector
    from frcnn_cli.roi.levels import Maps, Scales


@dataclass(frozen=True)
class RPN(ProposalSource):
    """The region proposal network of one of torchvision's detectors."""

    name = "rpn"
    version = "1"

    weights: str = option(
        help="The detector whose region proposal network is used: a name that frcnn models lists, or a model file"
        " made by frcnn models get."
    )
    per_level: int = option(
        0, help="Boxes per level of the pyramid before suppression; 0: as the detector is configured.", minimum=0
    )
    count: int = option(0, help="Boxes per image after suppression; 0: as the detector is configured.", minimum=0)
    iou: float = option(
        0.0,
        help="A box is suppressed if its IoU with a better one of its level is more than this; 0: as the detector is"
        " configured.",
        minimum=0,
        maximum=1,
    )
    min_score: float = option(
        -1.0, help="Minimum objectness, a probability; -1: as the detector is configured.", minimum=-1, maximum=1
    )

    def in_detector(self, detector: Any) -> Self:
        """The network that the detector itself has, if it has one, so that it is not loaded twice."""
        if detector.rpn is None:
            return self
        source = replace(self)
        object.__setattr__(source, "_own", detector)
        return source

    def __getstate__(self) -> dict[str, Any]:
        """The options, for worker processes, which load the detector themselves."""
        return {name: value for name, value in vars(self).items() if name != "_own"}

    @property
    def detector(self) -> Detector:
        """The detector with the network. Raises FrcnnError if it cannot be loaded."""
        own: Detector | None = vars(self).get("_own")
        return own if own is not None else _loaded(self.weights)

    def described(self) -> dict[str, Any]:
        """With a hash of the weights if they are a file, because another file at the same path is another source."""
        if not self.files():
            return super().described()
        with open(model_path(Path(self.weights)), "rb") as opened:
            digest = hashlib.file_digest(opened, partial(hashlib.blake2b, digest_size=16)).hexdigest()
        return {**super().described(), "content": digest}

    def files(self) -> list[Path]:
        return [] if is_pretrained(self.weights) or not Path(self.weights).exists() else [Path(self.weights)]

    def prepare(self) -> None:
        self.detector  # noqa: B018 (loads it)

    def reads_maps_of(self, detector: Any) -> bool:
        return vars(self).get("_own") is detector or super().reads_maps_of(detector)

    def maps_id(self) -> str:
        return self.detector.features_id

    def propose(self, image: Image) -> Proposals:
        maps, scale = self.detector.feature_map(image, "float32")
        return self.propose_in_maps(image, maps, scale)

    def propose_in_maps(self, image: Image, maps: Maps, scales: Scales) -> Proposals:
        from frcnn_cli.roi.levels import as_tuple

        if isinstance(maps, list) or isinstance(scales, list):
            raise UsageError("a region proposal network reads images at one scale", "Unset images.test_short_sides")
        x, y = scales if isinstance(scales, tuple) else (scales, scales)
        detector = self.detector
        network = detector.rpn
        assert network is not None, "detectors without one are refused when they are loaded"
        changes: dict[str, Any] = {
            name: value for name in ("per_level", "count", "iou") if (value := getattr(self, name))
        }
        if self.min_score >= 0:
            changes["min_score"] = self.min_score
        levels = tuple(one.to(detector.device) for one in as_tuple(maps))
        stride = detector.head.pooler.strides[0]
        padded = levels[0].shape[2] * stride, levels[0].shape[3] * stride
        size = round(image.height * y), round(image.width * x)
        boxes, scores = network.boxes(levels, size, padded, replace(network.config, **changes))
        original = boxes.cpu().double().numpy() / (x, y, x, y)
        inside = np.clip(original, 0, (image.width, image.height) * 2).astype(np.float32)
        return Proposals(inside, scores.cpu().numpy())


@cache
def _loaded(weights: str) -> Detector:
    from frcnn_cli.detector.detector import Detector

    detector = Detector.load(weights)
    if detector.rpn is None:
        raise FrcnnError(
            f"the model {weights} has no region proposal network", "frcnn models lists detectors that have one"
        )
    return detector


@hookimpl
def frcnn_proposal_sources() -> list[type[ProposalSource]]:
    """The sources that need the network."""
    return [RPN]
