"""How a backbone is built."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from frcnn_cli.features.backbones.backbone import Backbone
from frcnn_cli.features.backbones.loading import Weights


class MeanStd(NamedTuple):
    """mean, std: of RGB values in 0..1, with which a network was trained."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


Normalisation = Literal["torchvision", "caffe"] | MeanStd


class BackboneSpec(NamedTuple):
    """How a backbone is built.

    normalisation: of the pixels that its weights were trained on.
    geometry: a version number, raised whenever padding or rounding changes; maps and models of another are refused.
    build_pyramid: how it is built with a feature pyramid; None: not supported.
    """

    build: Callable[[Weights], Backbone]
    normalisation: Normalisation = "torchvision"
    geometry: int = 1
    build_pyramid: Callable[[Weights], Backbone] | None = None
