"""Backbones: the conv layers that make the map, and the layers that read its pooled RoIs. A backbone is one short
function from `Weights` to `Backbone`, and a name here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from frcnn_cli.features.backbones.alexnet import alexnet
from frcnn_cli.features.backbones.backbone import Backbone
from frcnn_cli.features.backbones.caffe import caffenet, vgg_cnn_m_1024
from frcnn_cli.features.backbones.loading import Weights
from frcnn_cli.features.backbones.mobile import SQUEEZENETS, mobilenet_v3_large
from frcnn_cli.features.backbones.resnet import RESNETS
from frcnn_cli.features.backbones.small import small
from frcnn_cli.features.backbones.vgg import VGGS

BACKBONES: dict[str, Callable[[Weights], Backbone]] = {
    **VGGS,
    "vgg_cnn_m_1024": vgg_cnn_m_1024,
    "caffenet": caffenet,
    "alexnet": alexnet,
    **RESNETS,
    "mobilenet_v3_large": mobilenet_v3_large,
    **SQUEEZENETS,
    "small": small,
}


def build(name: str, weights: str | Path = "none", fine: bool = False) -> Backbone:
    """A backbone with its weights.

    Args:
        fine: cells of half the size (see `Backbone.refine`).
        weights: "imagenet" (torchvision's own download), "none" (random, nothing frozen), or the path of a state dict
            of the classification network (`.pth`, read with `weights_only`, or `.safetensors`).

    Raises:
        FrcnnError: the download failed, or the file is not the state dict of this network.
    """
    backbone = BACKBONES[name](Weights(name, str(weights)))
    if weights == "none":
        backbone.frozen = 0
    if fine:
        backbone.refine()
    return backbone
