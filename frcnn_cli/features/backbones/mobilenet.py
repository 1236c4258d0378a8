"""MobileNetV3 (Howard et al., 2019): small enough for a CPU."""

from __future__ import annotations

from torch import nn

from frcnn_cli.features.backbones.backbone import Backbone, freeze_batch_norm
from frcnn_cli.features.backbones.loading import Weights


def mobilenet_v3_large(weights: Weights) -> Backbone:
    """Stride 16, 112 channels, 14x14 grid, the last blocks as head (960 channels); everything before stride 4 frozen,
    and batch normalisation in all layers."""
    from torchvision import models  # imported late: torchvision imports torch._dynamo

    net = weights.into(models.mobilenet_v3_large(weights=None))
    freeze_batch_norm(net)
    layers = {f"block{i}": i for i in range(13)}
    return Backbone(net.features[:13], nn.Sequential(*net.features[13:]), 112, 16, (14, 14), 4, layers)
