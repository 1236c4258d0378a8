"""The parts of a classification network that Fast R-CNN starts from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import nn

from frcnn_cli.core.errors import UsageError
from frcnn_cli.features.backbones.pyramid import FeaturePyramid


class ConvsAndLinear(NamedTuple):
    """Hidden layers: conv layers [R, C, H, W] -> [R, D, H, W], and a linear layer that reads [D, H, W]."""

    convs: nn.Sequential
    linear: nn.Linear


@dataclass
class Backbone:
    """The parts of a classification network; RoI max pooling replaces its last max pooling (section 2.2).

    conv: float32 [B, 3, h, w] -> [B, channels, h / stride, w / stride]; a `FeaturePyramid` gives one map per level.
    hidden: the layers between pooled RoIs and the two outputs. Either two linear layers, `channels * H * W` -> hidden
        -> hidden, of which the first reads a pooled RoI flattened from [channels, H, W]; or conv layers
        [R, channels, H, W] -> [R, D, .., ..], whose output is averaged over the cells ("C4" in the ResNet paper); or
        conv layers and one linear layer that reads their output.
    channels: of the conv map.
    stride: pixels per cell of the conv map; of a pyramid, of its finest level.
    grid: rows and columns of a pooled RoI, H x W.
    frozen: the number of leading modules of `conv` that keep their ImageNet weights (section 4.5).
    layers: for each named layer, the index in `conv` at which it begins.
    geometry: per map, its stride and the centre of its first cell in pixels; empty: found from the layers of `conv`,
        which then must be conv and pooling layers in a row.
    """

    conv: nn.Sequential
    hidden: tuple[nn.Linear, nn.Linear] | nn.Sequential | ConvsAndLinear
    channels: int
    stride: int
    grid: tuple[int, int]
    frozen: int
    layers: dict[str, int] = field(default_factory=dict)
    geometry: tuple[tuple[int, float], ...] = ()

    def frozen_before(self, layer: str) -> int:
        """The number of leading modules of `conv` that are not trained if training begins with `layer`.

        Args:
            layer: a name in `layers`, "fc6" for no conv layer, or "" for the default of the backbone.

        Raises:
            UsageError: no such layer.
        """
        if layer in ("", "fc6"):
            return len(self.conv) if layer else self.frozen
        if layer not in self.layers:
            known = ", ".join(self.layers)
            raise UsageError(f"network.train_from is {layer!r}, which is not a layer", f"Name one of {known}, or fc6")
        return self.layers[layer]

    @property
    def cell_offset(self) -> float:
        """Resized pixels by which layers without full padding shift the cells: the centre of cell (i, j) lies at
        ((j + 0.5) stride + offset, (i + 0.5) stride + offset)."""
        return self.cell_offsets[0]

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels per cell of the map, or of each level of a pyramid."""
        if self.geometry:
            return tuple(stride for stride, _ in self.geometry)
        if not isinstance(self.conv, FeaturePyramid):
            return (self.stride,)
        return tuple(_geometry(layers)[0] for layers in self.conv.bottom_up())

    @property
    def cell_offsets(self) -> tuple[float, ...]:
        """The offset of the cells of the map, or of each level of a pyramid; see `cell_offset`."""
        if self.geometry:
            return tuple(centre - stride / 2 for stride, centre in self.geometry)
        if not isinstance(self.conv, FeaturePyramid):
            return (_geometry(self.conv)[1] - self.stride / 2,)
        return tuple(centre - stride / 2 for stride, centre in map(_geometry, self.conv.bottom_up()))

    def set_grid(self, rows: int, columns: int) -> None:
        """Pools RoIs to another grid. A first linear layer that reads another number of bins starts from scratch; conv
        layers read grids of any size."""
        if isinstance(self.hidden, ConvsAndLinear):
            convs, linear = self.hidden
            inputs = linear.in_features // (self.grid[0] * self.grid[1]) * rows * columns
            if (rows, columns) != self.grid:
                self.hidden = ConvsAndLinear(convs, nn.Linear(inputs, linear.out_features))
        elif not isinstance(self.hidden, nn.Sequential) and (rows, columns) != self.grid:
            first, second = self.hidden
            self.hidden = nn.Linear(self.channels * rows * columns, first.out_features), second
        self.grid = rows, columns

    def halve_cells(self) -> None:
        """Halves the cell size of the map, for small objects, by leaving out its last downsampling: a pooling layer is
        removed, a strided conv layer keeps its weights and gets stride 1. The layers after it then see half as large a
        part of the image as they were trained on."""
        for i, module in reversed(list(enumerate(self.conv))):
            if isinstance(module, nn.MaxPool2d):
                self.conv[i] = nn.Identity()
                break
            strided = [m for m in module.modules() if isinstance(m, nn.Conv2d) and m.stride == (2, 2)]
            if strided:
                for conv in strided:
                    conv.stride = (1, 1)
                break
        self.stride //= 2


# Layers beside the main path of a block: the shortcut of a residual block, the narrow half of a fire module, and what
# weights the channels in MobileNet. Both branches of a block see the same centre.
_BESIDE = {"downsample", "expand1x1", "fc1", "fc2", "avgpool"}


def _geometry(conv: nn.Module) -> tuple[int, float]:
    """Stride of the cells of a map, and the coordinate of the centre of its first cell, both in pixels."""
    centre, jump = 0.5, 1
    for layer in _chain(conv):
        size, padding, step = (v[0] if isinstance(v, tuple) else v for v in _window(layer))
        centre += jump * ((size - 1) / 2 - padding)
        jump *= step
    return jump, centre


def _chain(module: nn.Module) -> Iterator[nn.Conv2d | nn.MaxPool2d]:
    """The conv and pooling layers between image and map, in order; of parallel branches, only one."""
    for name, child in module.named_children():
        if isinstance(child, (nn.Conv2d, nn.MaxPool2d)) and name not in _BESIDE:
            yield child
        elif name not in _BESIDE:
            yield from _chain(child)


def _window(layer: nn.Conv2d | nn.MaxPool2d) -> tuple[Any, Any, Any]:
    return layer.kernel_size, layer.padding, layer.stride


def indices_of(conv: nn.Sequential, *kinds: type[nn.Module]) -> list[int]:
    """The indices of modules of these types."""
    return [i for i, module in enumerate(conv) if isinstance(module, kinds)]


def numbered(conv: nn.Sequential) -> dict[str, int]:
    """The indices of conv1, conv2, ..."""
    return {f"conv{number}": at for number, at in enumerate(indices_of(conv, nn.Conv2d), 1)}


def numbered_by_block(conv: nn.Sequential) -> dict[str, int]:
    """The indices of conv1_1, conv1_2, conv2_1, ...; a block ends with its pooling layer."""
    layers, block, number = {}, 1, 0
    for at in indices_of(conv, nn.Conv2d, nn.MaxPool2d):
        if isinstance(conv[at], nn.MaxPool2d):
            block, number = block + 1, 0
        else:
            number += 1
            layers[f"conv{block}_{number}"] = at
    return layers


def new_hidden_layers(inputs: int, units: int) -> tuple[nn.Linear, nn.Linear]:
    """Two fully connected layers that are trained from scratch.

    They have PyTorch's default initialisation, about 0.4 times the standard deviation of He's: SqueezeNet's maps have
    large values (RMS 28 on BCCD), and with He's initialisation the first loss is 24 and training at learning rate
    0.004 diverges.
    """
    layers = nn.Linear(inputs, units), nn.Linear(units, units)
    for layer in layers:
        layer.is_new = True  # type: ignore[assignment]  # no classification network trained it; see `is_new`
    return layers


def is_new(module: nn.Module) -> bool:
    """Whether a module has hidden layers that start from random weights, whatever the weights of the backbone."""
    return any(getattr(layer, "is_new", False) for layer in module.modules())


def freeze_batch_norm(module: nn.Module) -> None:
    """Fixes batch normalisation to its ImageNet statistics, in place: two images per batch are too few to estimate mean
    and variance."""
    norms = [child for child in module.modules() if isinstance(child, nn.BatchNorm2d)]
    if not norms:
        return
    from torchvision.ops.misc import FrozenBatchNorm2d  # imported late: torchvision imports torch._dynamo

    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            frozen = FrozenBatchNorm2d(child.num_features, child.eps)
            frozen.load_state_dict({k: v for k, v in child.state_dict().items() if k != "num_batches_tracked"})
            setattr(module, name, frozen)
        else:
            freeze_batch_norm(child)
