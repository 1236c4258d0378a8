"""VGG (Simonyan and Zisserman, 2015): the paper's "L", and its shallower and normalised relatives."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn
from torchvision import models

from frcnn_cli.features.backbones.backbone import Backbone, found, freeze_batch_norm, numbered_by_block
from frcnn_cli.features.backbones.loading import Weights


def vgg(make: Callable[..., models.VGG], weights: Weights) -> Backbone:
    """Stride 16, 512 channels, 7x7 grid, two fully connected layers of 4096; conv1 and conv2 frozen. Of those with
    batch normalisation ("_bn"), that is frozen everywhere."""
    net = weights.into(make)
    freeze_batch_norm(net)
    conv = net.features[:-1]
    frozen = found(conv, nn.MaxPool2d)[1] + 1
    layers = numbered_by_block(conv)
    return Backbone(conv, (net.classifier[0], net.classifier[3]), 512, 16, 7, frozen, layers)


VGGS = {
    make.__name__: partial(vgg, make)
    for make in (
        *(models.vgg16, models.vgg11, models.vgg13),
        *(models.vgg11_bn, models.vgg13_bn, models.vgg16_bn),
    )
}
