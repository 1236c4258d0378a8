"""ResNet (He et al., 2016) as "C4": the map is the output of conv4, and conv5 is the head of each RoI."""

from __future__ import annotations

from functools import partial

from torch import nn

from frcnn_cli.features.backbones.backbone import Backbone, freeze_batch_norm, new_hidden_layers
from frcnn_cli.features.backbones.loading import Weights
from frcnn_cli.features.backbones.pyramid import CHANNELS, UNITS, FeaturePyramid


def resnet(name: str, channels: int, weights: Weights) -> Backbone:
    """Stride 16, 256 (resnet18) or 1024 channels (resnet50), 14x14 grid, conv5 as head; the stem and conv2 frozen, and
    batch normalisation in all layers."""
    from torchvision import models  # imported late: torchvision imports torch._dynamo

    net = weights.into(getattr(models, name)(weights=None))
    freeze_batch_norm(net)
    conv = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2, net.layer3)
    layers = {"conv1": 0, "conv2": 4, "conv3": 5, "conv4": 6}
    return Backbone(conv, nn.Sequential(net.layer4), channels, 16, (14, 14), 5, layers)


def resnet_pyramid(name: str, channels: tuple[int, ...], weights: Weights) -> Backbone:
    """Strides 4, 8, 16 and 32, 256 channels, 7x7 grid, two new fully connected layers of 1,024; the stem and conv2
    frozen, and batch normalisation in all layers."""
    from torchvision import models  # imported late: torchvision imports torch._dynamo

    net = weights.into(getattr(models, name)(weights=None))
    freeze_batch_norm(net)
    stages = (net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2, net.layer3, net.layer4)
    conv = FeaturePyramid(stages, (4, 5, 6, 7), channels)
    layers = {"conv1": 0, "conv2": 4, "conv3": 5, "conv4": 6, "conv5": 7, "fpn": 8}
    return Backbone(conv, new_hidden_layers(CHANNELS * 7 * 7, UNITS), CHANNELS, 4, (7, 7), 5, layers)


RESNETS = {"resnet18": partial(resnet, "resnet18", 256), "resnet50": partial(resnet, "resnet50", 1024)}
RESNET_PYRAMIDS = {
    "resnet18": partial(resnet_pyramid, "resnet18", (64, 128, 256, 512)),
    "resnet50": partial(resnet_pyramid, "resnet50", (256, 512, 1024, 2048)),
}
