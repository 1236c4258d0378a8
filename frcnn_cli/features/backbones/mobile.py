"""Networks that are small enough for a CPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn
from torchvision import models
from torchvision.models.squeezenet import Fire

from frcnn_cli.features.backbones.backbone import Backbone, found, freeze_batch_norm, new_layers
from frcnn_cli.features.backbones.loading import Weights


def squeezenet(make: Callable[..., models.SqueezeNet], weights: Weights) -> Backbone:
    """Stride 16, 512 channels, 7x7 grid; its classifier is a conv, so two fully connected layers of 1024 are new; conv1
    frozen."""
    net = weights.into(make)
    layers = {"conv1": 0, **{f"fire{i}": at for i, at in enumerate(found(net.features, Fire), 2)}}
    return Backbone(net.features, new_layers(512 * 7 * 7, 1024), 512, 16, 7, 3, layers)


def mobilenet_v3_large(weights: Weights) -> Backbone:
    """Stride 16, 112 channels, 14x14 grid, its last blocks as head (960 channels); all before stride 4 frozen, and
    batch normalisation everywhere."""
    net = weights.into(models.mobilenet_v3_large)
    freeze_batch_norm(net)
    layers = {f"block{i}": i for i in range(13)}
    return Backbone(net.features[:13], nn.Sequential(*net.features[13:]), 112, 16, 14, 4, layers)


SQUEEZENETS = {make.__name__: partial(squeezenet, make) for make in (models.squeezenet1_0, models.squeezenet1_1)}
