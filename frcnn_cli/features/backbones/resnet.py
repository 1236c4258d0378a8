"""ResNet (He et al., 2016) as "C4": the map is the output of conv4, and conv5 is the head of each RoI."""

from __future__ import annotations

from functools import partial

from torch import nn

from frcnn_cli.features.backbones.backbone import Backbone, freeze_batch_norm
from frcnn_cli.features.backbones.loading import Weights


def resnet(name: str, channels: int, weights: Weights) -> Backbone:
    """Stride 16, 256 (resnet18) or 1024 channels (resnet50), 14x14 grid, conv5 as head; the stem and conv2 frozen, and
    batch normalisation in all layers."""
    from torchvision import models  # imported late: torchvision imports torch._dynamo

    net = weights.into(getattr(models, name)(weights=None))
    freeze_batch_norm(net)
    conv = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2, net.layer3)
    layers = {"conv1": 0, "conv2": 4, "conv3": 5, "conv4": 6}
    return Backbone(conv, nn.Sequential(net.layer4), channels, 16, (14, 14), 5, layers)


RESNETS = {"resnet18": partial(resnet, "resnet18", 256), "resnet50": partial(resnet, "resnet50", 1024)}
