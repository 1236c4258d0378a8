"""Where the cells of a network's maps lie, found by running it on a tensor without data."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

_SIDE = 448  # pixels of the probe; a multiple of the patches of all common networks (14, 16, 32)


def geometry_of(
    network: Callable[[Tensor], Any], layers: nn.Module, maps: Callable[[Any], list[Tensor]]
) -> list[tuple[int, float]]:
    """For each map: its stride, and the coordinate of the centre of its first cell, in pixels.

    Layers that keep the size of a map keep the centres of its cells too. So what counts is the first layer with which
    a size occurs. Parallel branches have the same centres in most networks; where they differ (by half a cell, where
    the shortcut is pooled over 2 x 2 cells), the first branch counts.

    Args:
        network: from images [1, 3, h, w] to some output. layers: the module whose layers are watched.
        maps: the maps in that output.

    Raises:
        ValueError: a size is made by something other than a conv or pooling layer.
    """
    centres: dict[tuple[int, ...], tuple[float, float]] = {(_SIDE, _SIDE): (1.0, 0.5)}  # size -> stride, first centre

    def watch(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        before, after = tuple(inputs[0].shape[-2:]), tuple(output.shape[-2:])
        if after in centres or before not in centres:
            return
        jump, centre = centres[before]
        size, step = (v[0] if isinstance(v, tuple) else v for v in (layer.kernel_size, layer.stride))
        padding = layer.padding[0] if isinstance(layer.padding, tuple) else layer.padding
        if "Same" in type(layer).__name__ or isinstance(padding, str):  # TensorFlow's: as much as is needed
            padding = max((math.ceil(before[0] / step) - 1) * step + size - before[0], 0) // 2
        centres[after] = jump * step, centre + jump * ((size - 1) / 2 - padding)

    kinds = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
    hooks = [layer.register_forward_hook(watch) for layer in layers.modules() if isinstance(layer, kinds)]
    device = next(layers.parameters()).device
    try:
        with torch.no_grad():
            found = maps(network(torch.zeros(1, 3, _SIDE, _SIDE, device=device)))
    finally:
        for hook in hooks:
            hook.remove()
    sizes = [tuple(one.shape[-2:]) for one in found]
    unknown = next((size for size in sizes if size not in centres), None)
    if unknown is not None:
        raise ValueError(f"its maps of {unknown[0]} x {unknown[1]} cells are not made by conv or pooling layers")
    return [(round(centres[size][0]), centres[size][1]) for size in sizes]
