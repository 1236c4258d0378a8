"""What Fast R-CNN starts from: the parts of a classification network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn
from torchvision.ops.misc import FrozenBatchNorm2d

from frcnn_cli.errors import UsageError


@dataclass
class Backbone:
    """The parts of a classification network that Fast R-CNN starts from. Its last max pooling is gone: RoI max pooling
    stands in its place (section 2.2).

    conv: float32 [B, 3, h, w] -> [B, channels, h / stride, w / stride]
    hidden: what stands between pooled RoIs and the two outputs. Either two linear layers, `channels * grid * grid` ->
        hidden -> hidden, of which the first reads a pooled RoI flattened from [channels, grid, grid]; or conv layers
        [R, channels, grid, grid] -> [R, D, .., ..], whose mean over the cells is taken ("C4", after ResNet's paper).
    frozen: how many leading modules of `conv` stay as ImageNet left them (section 4.5)
    layers: where in `conv` each named layer begins
    normalisation: the pixels that its weights were trained on (see `transform`)
    """

    conv: nn.Sequential
    hidden: tuple[nn.Linear, nn.Linear] | nn.Sequential
    channels: int
    stride: int
    grid: int
    frozen: int
    layers: dict[str, int] = field(default_factory=dict)
    normalisation: Literal["torchvision", "caffe"] = "torchvision"

    def frozen_before(self, layer: str) -> int:
        """How many leading modules of `conv` do not learn where training begins with `layer`.

        Args:
            layer: a name in `layers`, "fc6" for no conv layer at all, or "" for the backbone's own choice.

        Raises:
            UsageError: no such layer.
        """
        if layer in ("", "fc6"):
            return len(self.conv) if layer else self.frozen
        if layer not in self.layers:
            known = ", ".join(self.layers)
            raise UsageError(f"network.train_from is {layer!r}, which is no layer", f"Name one of {known}, or fc6")
        return self.layers[layer]

    @property
    def shift(self) -> float:
        """Resized pixels by which the centres of cells lie further right and below than those of squares of `stride`
        pixels from the corner on: convs and poolings without full padding move them."""
        centre, jump = 0.5, 1
        for layer in self.conv.modules():
            if isinstance(layer, (nn.Conv2d, nn.MaxPool2d)):
                size, padding, step = (v[0] if isinstance(v, tuple) else v for v in _window(layer))
                centre += jump * ((size - 1) / 2 - padding)
                jump *= step
        return centre - self.stride / 2

    def refine(self) -> None:
        """Cells of half the size, for small objects: the last step of `conv` that halves the map does so no more. A
        pooling is taken out, a conv keeps its weights; what comes after sees half as much of the image as it was
        trained on."""
        for i, module in reversed(list(enumerate(self.conv))):
            if isinstance(module, nn.MaxPool2d):
                self.conv[i] = nn.Identity()
                break
            halving = [m for m in module.modules() if isinstance(m, nn.Conv2d) and m.stride == (2, 2)]
            if halving:
                for conv in halving:
                    conv.stride = (1, 1)
                break
        self.stride //= 2


def _window(layer: nn.Conv2d | nn.MaxPool2d) -> tuple[Any, Any, Any]:
    return layer.kernel_size, layer.padding, layer.stride


def found(conv: nn.Sequential, *kinds: type[nn.Module]) -> list[int]:
    """Where modules of these kinds are."""
    return [i for i, module in enumerate(conv) if isinstance(module, kinds)]


def numbered(conv: nn.Sequential) -> dict[str, int]:
    """conv1, conv2, ..."""
    return {f"conv{number}": at for number, at in enumerate(found(conv, nn.Conv2d), 1)}


def numbered_by_block(conv: nn.Sequential) -> dict[str, int]:
    """conv1_1, conv1_2, conv2_1, ...: a block ends with its pooling."""
    layers, block, number = {}, 1, 0
    for at in found(conv, nn.Conv2d, nn.MaxPool2d):
        if isinstance(conv[at], nn.MaxPool2d):
            block, number = block + 1, 0
        else:
            number += 1
            layers[f"conv{block}_{number}"] = at
    return layers


def new_layers(inputs: int, hidden: int) -> tuple[nn.Linear, nn.Linear]:
    """Two fully connected layers to be learnt from nothing.

    PyTorch's own initialisation, about 0.4 of He's spread: SqueezeNet's maps are large (RMS 28 on BCCD), and with He's
    the first loss there is 24 and training at rate 0.004 diverges.
    """
    return nn.Linear(inputs, hidden), nn.Linear(hidden, hidden)


def freeze_batch_norm(module: nn.Module) -> None:
    """Batch normalisation as ImageNet left it, in place: two images a batch tell too little of mean and variance."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            frozen = FrozenBatchNorm2d(child.num_features, child.eps)
            frozen.load_state_dict({k: v for k, v in child.state_dict().items() if k != "num_batches_tracked"})
            setattr(module, name, frozen)
        else:
            freeze_batch_norm(child)
