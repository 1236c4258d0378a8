"""New hidden layers, in place of those of the classification network."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Literal

from torch import nn

from frcnn_cli.features.backbones.backbone import Backbone, ConvsAndLinear, new_hidden_layers

Head = Literal["backbone", "mlp", "conv"]

_GRID = (7, 7)
_UNITS = 1024
_CONVS = 4
_CHANNELS = 256


def with_head(backbone: Backbone, head: Head) -> Backbone:
    """A backbone with other hidden layers, trained from scratch, on a grid of 7 x 7 bins.

    Args:
        head: "backbone": its own; "mlp": two fully connected layers of 1,024 (FPN, section 4.2); "conv": four conv
            layers of 256 channels and a fully connected one of 1,024.
    """
    if head == "backbone":
        return backbone
    bins = _GRID[0] * _GRID[1]
    if head == "mlp":
        return replace(backbone, hidden=new_hidden_layers(backbone.channels * bins, _UNITS), grid=_GRID)
    widths = [backbone.channels, *[_CHANNELS] * _CONVS]
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        layers += [conv, nn.ReLU(inplace=True)]
    last = new_hidden_layers(_CHANNELS * bins, _UNITS)[0]
    hidden = ConvsAndLinear(nn.Sequential(*layers), last)
    return replace(backbone, hidden=hidden, grid=_GRID)
