"""A small network that trains from scratch in a minute (`frcnn demo`)."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from frcnn_cli.core.errors import UsageError
from frcnn_cli.features.backbones.backbone import Backbone, new_hidden_layers, numbered
from frcnn_cli.features.backbones.loading import Weights


def small(weights: Weights) -> Backbone:
    """Stride 4, 64 channels, 7x7 grid, two fully connected layers of 256; nothing frozen."""
    if weights.which == "imagenet":
        raise UsageError("there are no weights of small to download", "Add --weights none")
    conv = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2, ceil_mode=True)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2, ceil_mode=True)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(inplace=True)),
        *(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(inplace=True)),
    )
    hidden = new_hidden_layers(64 * 7 * 7, 256)
    for layer in (*conv, *hidden):
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(cast(Tensor, layer.bias))
    if weights.which not in ("none", "later"):
        weights.into(conv)
    return Backbone(conv, hidden, 64, 4, (7, 7), 0, numbered(conv))
