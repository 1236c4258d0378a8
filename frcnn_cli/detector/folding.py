"""Conv layers for detection: the same function in fewer passes over the maps.

Frozen batch normalisation is multiplied into the conv layer before it, which saves 14% of the time of a ResNet-50 with
a pyramid. On CPUs, activations, and in residual blocks the addition of the shortcut, become part of the conv layers,
and weights are kept in the order in which oneDNN reads them. These are the operators that PyTorch's compiler uses.
"""

from __future__ import annotations

import copy
import threading
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from frcnn_cli.system.facts import has_bfloat16

_BLOCKS = {"Bottleneck": 3, "BasicBlock": 2}  # torchvision's residual blocks, and how many conv layers they have
_ACTIVATIONS = {nn.ReLU: "relu", nn.Hardswish: "hardswish"}

# oneDNN reorders other weights whenever a layer is called, which takes up to half of the time on small maps. Packing
# smaller ones saves little, and makes 64 -> 256 channels in bfloat16 on 200 x 272 cells slower (11 ms instead of 6).
# On a single cell (squeeze and excitation), packed weights take 40 times as long.
_MIN_PACKED = 20_000
_MIN_CELLS = 16
_PACKING = threading.Lock()


class DetectionLayers:
    """Conv layers as detection runs them, made again whenever a weight of the original layers has changed.

    Changes that PyTorch does not count, through `.data` or NumPy, are not noticed: call `Detector.forget` after them.
    """

    def __init__(self) -> None:
        self._state: object = None
        self._made: nn.Module | None = None

    def of(self, layers: nn.Module) -> nn.Module:
        """The layers to call in place of `layers`."""
        state = state_of(layers)
        if state is None:
            return layers
        if self._made is None or self._state != state:
            self._state, self._made = state, for_detection(layers)
        return self._made

    # Packed weights cannot be copied, nor sent to another process, and belong to the original.

    def __deepcopy__(self, memo: object) -> DetectionLayers:
        return DetectionLayers()

    def __reduce__(self) -> tuple[type[DetectionLayers], tuple[()]]:
        return DetectionLayers, ()


def state_of(module: nn.Module) -> tuple[tuple[int, int], ...] | None:
    """Where the weights are and how often each was changed, which takes 0.2 ms where their hash takes 100; None if
    PyTorch does not count changes."""
    try:
        return tuple([(value.data_ptr(), value._version) for value in _tensors(module)])
    except RuntimeError:  # tensors that were made in inference mode have no version
        return None


def _tensors(module: nn.Module) -> list[Tensor]:
    """Parameters and buffers; `Module.parameters` takes several times as long, because it makes names."""
    found: list[Tensor | None] = []
    left = [module]
    while left:
        one = left.pop()
        found += one._parameters.values()
        found += one._buffers.values()
        left += [child for child in one._modules.values() if child is not None]
    return [value for value in found if value is not None]


@torch.no_grad()
def for_detection(layers: nn.Module) -> nn.Module:
    """A copy in which conv layers include the frozen batch normalisation and, on CPUs, the activation that follows; the
    layers themselves if there is nothing to gain."""
    fuse = _has_fused_operators(layers)
    if not fuse and not any(map(_is_frozen_norm, layers.modules())):
        return layers
    made = copy.deepcopy(layers).requires_grad_(False)
    for parent in list(made.modules()):
        if not isinstance(parent, nn.Sequential) and type(parent).__module__ != "torchvision.models.resnet":
            continue  # its modules need not run in the order in which they are listed
        for (_, layer), (name, norm) in pairwise(list(parent.named_children())):
            if isinstance(layer, nn.Conv2d) and _is_frozen_norm(norm):
                _fold(layer, norm)
                setattr(parent, name, nn.Identity())
    return _fused(made) if fuse else made


def _fused(module: nn.Module) -> nn.Module:
    """The module with its conv layers replaced by fused ones."""
    if isinstance(module, nn.Conv2d):
        return FusedConv(module) if _can_be_fused(module) else module
    if _is_torchvision_block(module):
        return ResidualBlock(module)
    if _is_torchvision_pyramid(module):
        return FusedPyramid(module)
    if type(module).forward is nn.Sequential.forward:
        _take_in_activations(module)
    for name, child in list(module.named_children()):
        setattr(module, name, _fused(child))
    return module


def _take_in_activations(sequence: nn.Module) -> None:
    """Makes activations part of the conv layer before them; identities between the two do not count."""
    conv, place = None, ""
    for name, child in list(sequence.named_children()):
        if isinstance(child, nn.Conv2d) and _can_be_fused(child):
            conv, place = child, name
        elif conv is not None and type(child) in _ACTIVATIONS:
            setattr(sequence, place, FusedConv(conv, _ACTIVATIONS[type(child)]))
            setattr(sequence, name, nn.Identity())
            conv = None
        elif not isinstance(child, nn.Identity):
            conv = None


class FusedConv(nn.Module):
    """A conv layer and the activation after it, in one pass; large weights in the order in which oneDNN reads them."""

    def __init__(self, conv: nn.Conv2d, activation: str = "none") -> None:
        super().__init__()
        self.activation = activation
        self.weight, self.bias = conv.weight.detach(), conv.bias
        self.how = conv.padding, conv.stride, conv.dilation, conv.groups
        self.may_be_packed = self.weight.numel() >= _MIN_PACKED

    def _pack_once(self, x: Tensor) -> None:
        """Packs the weights, if this pays for maps like `x`, the first that are seen."""
        if not self.may_be_packed:
            return
        with _PACKING:  # several threads may detect
            if self.may_be_packed and x.shape[2] * x.shape[3] >= _MIN_CELLS:
                self.weight = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *self.how, list(x.shape))
            self.may_be_packed = False

    def forward(self, x: Tensor) -> Tensor:
        self._pack_once(x)
        made: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self.weight, self.bias, *self.how, self.activation, [], ""
        )
        return made

    def added_to(self, x: Tensor, total: Tensor) -> Tensor:
        """Adds this layer's output to `total`, in place, and returns it."""
        self._pack_once(x)
        torch.ops.mkldnn._convolution_pointwise_.binary(
            total, x, self.weight, self.bias, *self.how, "add", 1.0, None, [], ""
        )
        return total

    def plus(self, x: Tensor, shortcut: Tensor) -> Tensor:
        """ReLU of the sum of this layer's output and a shortcut."""
        self._pack_once(x)
        made: Tensor = torch.ops.mkldnn._convolution_pointwise.binary(
            x, shortcut, self.weight, self.bias, *self.how, "add", 1.0, "relu", [], ""
        )
        return made


class ResidualBlock(nn.Module):
    """A residual block of torchvision without normalisation layers; each conv layer with what follows it."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        *first, last = (getattr(block, f"conv{i}") for i in range(1, _BLOCKS[type(block).__name__] + 1))
        self.first = nn.Sequential(*(FusedConv(conv, "relu") for conv in first))
        self.last = FusedConv(last)
        downsample: Any = block.downsample
        self.downsample = None if downsample is None else _fused(downsample)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.last.plus(self.first(x), shortcut)


class FusedPyramid(nn.Module):
    """torchvision's feature pyramid; each lateral layer adds its output to the coarser level.

    On the finest level of a photograph a new map takes 20 ms only because its memory is new.
    """

    def __init__(self, pyramid: Any) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(FusedConv(block[0]) for block in pyramid.inner_blocks)
        self.output = nn.ModuleList(FusedConv(block[0]) for block in pyramid.layer_blocks)

    def forward(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        """As in torchvision: the maps by name, finest first."""
        merged: Tensor | None = None
        found = {}
        layers: list[tuple[str, Any, Any]] = list(zip(maps, self.lateral, self.output, strict=True))
        for name, lateral, output in reversed(layers):
            x = maps[name]
            if merged is None:
                merged = lateral(x)
            else:
                merged = lateral.added_to(x, F.interpolate(merged, size=x.shape[2:], mode="nearest"))
            found[name] = output(merged)
        return {name: found[name] for name in maps}


def _can_be_fused(conv: nn.Conv2d) -> bool:
    hooks = conv._forward_hooks or conv._forward_pre_hooks
    return type(conv) is nn.Conv2d and conv.padding_mode == "zeros" and not isinstance(conv.padding, str) and not hooks


def _is_torchvision_block(module: nn.Module) -> bool:
    """By name and module: importing torchvision takes as long as torch."""
    kind = type(module)
    if kind.__name__ not in _BLOCKS or kind.__module__ != "torchvision.models.resnet":
        return False
    return not any(_is_frozen_norm(child) or isinstance(child, nn.BatchNorm2d) for child in module.modules())


def _is_torchvision_pyramid(module: Any) -> bool:
    """Whether this is torchvision's pyramid of lateral and output layers alone."""
    kind = type(module)
    if (kind.__module__, kind.__name__) != ("torchvision.ops.feature_pyramid_network", "FeaturePyramidNetwork"):
        return False
    convs = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    blocks = [*module.inner_blocks, *module.layer_blocks]
    plain = all(isinstance(block[0], nn.Conv2d) and len(block) == 1 for block in blocks)
    return plain and module.extra_blocks is None and all(map(_can_be_fused, convs))


def _has_fused_operators(conv: nn.Module) -> bool:
    on_cpu = all(value.device.type == "cpu" for value in conv.parameters())
    dtypes = {value.dtype for value in conv.parameters()}
    if not dtypes <= {torch.float32, torch.bfloat16} or (torch.bfloat16 in dtypes and not has_bfloat16()):
        return False  # oneDNN has no emulation of bfloat16, which PyTorch's own operators have
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    names = ("_convolution_pointwise", "_convolution_pointwise_", "_reorder_convolution_weight")
    return on_cpu and available and all(hasattr(torch.ops.mkldnn, name) for name in names)


def _fold(layer: nn.Conv2d, norm: nn.Module) -> None:
    names = ("weight", "bias", "running_mean", "running_var")
    weight, bias, mean, var = (getattr(norm, name).float() for name in names)
    factor = weight * (var + norm.eps).rsqrt()
    before = torch.zeros_like(mean) if layer.bias is None else layer.bias.float()
    layer.weight.copy_(layer.weight.float() * factor[:, None, None, None])
    layer.bias = nn.Parameter(((before - mean) * factor + bias).to(layer.weight.dtype), requires_grad=False)


def _is_frozen_norm(module: nn.Module) -> bool:
    return type(module).__name__ == "FrozenBatchNorm2d"  # by name: importing torchvision takes as long as torch
