"""AlexNet as torchvision has it (Krizhevsky, 2014: one column, fewer channels)."""

from __future__ import annotations

from torchvision import models

from frcnn_cli.features.backbones.backbone import Backbone, numbered
from frcnn_cli.features.backbones.loading import Weights


def alexnet(weights: Weights) -> Backbone:
    """Near the paper's "S": stride 16, 256 channels, 6x6 grid, two fully connected layers of 4096; conv1 frozen."""
    net = weights.into(models.alexnet)
    conv = net.features[:-1]
    return Backbone(conv, (net.classifier[1], net.classifier[4]), 256, 16, 6, 3, numbered(conv))
