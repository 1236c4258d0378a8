"""MobileNetV3 (Howard et al., 2019): small enough for a CPU."""

from __future__ import annotations

from torch import nn

from frcnn_cli.features.backbones.backbone import Backbone, freeze_batch_norm, new_hidden_layers
from frcnn_cli.features.backbones.loading import Weights
from frcnn_cli.features.backbones.pyramid import CHANNELS, UNITS, FeaturePyramid


def mobilenet_v3_large(weights: Weights) -> Backbone:
    """Stride 16, 112 channels, 14x14 grid, the last blocks as head (960 channels); everything before stride 4 frozen,
    and batch normalisation in all layers."""
    from torchvision import models  # imported late: torchvision imports torch._dynamo

    net = weights.into(models.mobilenet_v3_large(weights=None))
    freeze_batch_norm(net)
    layers = {f"block{i}": i for i in range(13)}
    return Backbone(net.features[:13], nn.Sequential(*net.features[13:]), 112, 16, (14, 14), 4, layers)


def mobilenet_v3_large_pyramid(weights: Weights) -> Backbone:
    """Two levels, both of stride 32, as in torchvision's detectors: the first is pooled, region proposal networks read
    both. 256 channels, 7x7 grid, two new fully connected layers of 1,024; everything before stride 4 frozen, and batch
    normalisation in all layers."""
    from torchvision import models  # imported late: torchvision imports torch._dynamo

    net = weights.into(models.mobilenet_v3_large(weights=None))
    freeze_batch_norm(net)
    conv = FeaturePyramid(list(net.features), (13, 16), (160, 960))
    layers = {f"block{i}": i for i in range(17)} | {"fpn": 17}
    return Backbone(conv, new_hidden_layers(CHANNELS * 7 * 7, UNITS), CHANNELS, 32, (7, 7), 4, layers)
