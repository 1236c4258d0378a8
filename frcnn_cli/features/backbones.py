"""Backbones: the conv layers that make the map, and the fully connected layers that read its pooled RoIs.

A backbone is one short function. Its last max pooling is gone: RoI max pooling stands in its place (section 2.2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.squeezenet import Fire

from frcnn_cli.errors import FileFormatError, FrcnnError, UsageError, explain_os_error


@dataclass
class Backbone:
    """The parts of a classification network that Fast R-CNN starts from.

    conv: float32 [B, 3, h, w] -> [B, channels, h / stride, w / stride]
    fc6, fc7: `channels * grid * grid` -> hidden -> hidden; fc6 reads a pooled RoI flattened from [channels, grid, grid]
    frozen: how many leading modules of `conv` stay as ImageNet left them (section 4.5)
    layers: where in `conv` each named layer begins
    dropout: share of hidden units dropped in training
    """

    conv: nn.Sequential
    fc6: nn.Linear
    fc7: nn.Linear
    channels: int
    stride: int
    grid: int
    frozen: int
    layers: dict[str, int]
    dropout: float = 0.5

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

    def halve_stride(self) -> None:
        """Takes out the last pooling of `conv`: cells of half the size, for small objects; the layers after it see
        half as much of the image as they were trained on."""
        last = max(i for i, module in enumerate(self.conv) if isinstance(module, nn.MaxPool2d))
        self.conv[last] = nn.Identity()
        self.stride //= 2


def vgg16(weights: Any = None) -> Backbone:
    """VGG16 ("L"): 13 conv layers, 512 channels, 7x7 grid, fc 4096; conv1 and conv2 frozen."""
    net = models.vgg16(weights=weights)
    fc6, fc7 = net.classifier[0], net.classifier[3]
    conv = net.features[:-1]
    return Backbone(conv, fc6, fc7, channels=512, stride=16, grid=7, frozen=10, layers=_numbered_by_block(conv))


def alexnet(weights: Any = None) -> Backbone:
    """AlexNet (near the paper's "S", CaffeNet): 5 conv layers, 256 channels, 6x6 grid, fc 4096; conv1 frozen."""
    net = models.alexnet(weights=weights)
    fc6, fc7 = net.classifier[1], net.classifier[4]
    conv = net.features[:-1]
    return Backbone(conv, fc6, fc7, channels=256, stride=16, grid=6, frozen=3, layers=_numbered(conv))


def squeezenet1_0(weights: Any = None) -> Backbone:
    """SqueezeNet 1.0: conv1 to fire9, 512 channels, 7x7 grid; its classifier is a conv, so fc 1024 are new."""
    net = models.squeezenet1_0(weights=weights)
    fc6, fc7 = _new_layers(512 * 7 * 7, 1024)
    layers = {"conv1": 0, **{f"fire{i}": at for i, at in enumerate(_found(net.features, Fire), 2)}}
    return Backbone(net.features, fc6, fc7, channels=512, stride=16, grid=7, frozen=3, layers=layers)


def small(weights: Any = None) -> Backbone:
    """Four conv layers of our own, trained from scratch in a minute (`frcnn demo`): 64 channels, stride 4, 7x7."""
    if weights is not None:
        raise UsageError("backbone 'small' has no pretrained weights", "Add --weights none")
    conv = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2, ceil_mode=True)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2, ceil_mode=True)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(inplace=True)),
        *(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(inplace=True)),
    )
    fc6, fc7 = _new_layers(64 * 7 * 7, 256)
    for layer in (*conv, fc6, fc7):
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(cast(Tensor, layer.bias))
    return Backbone(conv, fc6, fc7, channels=64, stride=4, grid=7, frozen=0, layers=_numbered(conv), dropout=0.2)


BACKBONES: dict[str, Callable[..., Backbone]] = {
    "vgg16": vgg16,
    "alexnet": alexnet,
    "squeezenet1_0": squeezenet1_0,
    "small": small,
}


def _window(layer: nn.Conv2d | nn.MaxPool2d) -> tuple[Any, Any, Any]:
    return layer.kernel_size, layer.padding, layer.stride


def _found(conv: nn.Sequential, kind: type[nn.Module]) -> list[int]:
    return [i for i, module in enumerate(conv) if isinstance(module, kind)]


def _numbered(conv: nn.Sequential) -> dict[str, int]:
    """conv1, conv2, ..."""
    return {f"conv{number}": at for number, at in enumerate(_found(conv, nn.Conv2d), 1)}


def _numbered_by_block(conv: nn.Sequential) -> dict[str, int]:
    """conv1_1, conv1_2, conv2_1, ...: a block ends with its pooling."""
    layers, block, number = {}, 1, 0
    for at, module in enumerate(conv):
        if isinstance(module, nn.Conv2d):
            number += 1
            layers[f"conv{block}_{number}"] = at
        elif isinstance(module, nn.MaxPool2d):
            block, number = block + 1, 0
    return layers


def build(name: str, weights: str | Path = "none", stride: int = 0) -> Backbone:
    """A backbone with its weights.

    Args:
        stride: 0, or half of the backbone's own (see `Backbone.halve_stride`).
        weights: "imagenet" (torchvision's own download), "none" (random, nothing frozen), or the path of a state dict
            of torchvision's model of that name (`.pth`, read with `weights_only`, or `.safetensors`).

    Raises:
        FrcnnError: the download failed, or the file is not the state dict of this network. UsageError: another stride.
    """
    backbone = _with_weights(name, weights)
    if stride not in (0, backbone.stride, backbone.stride // 2):
        have = f"{backbone.stride} or {backbone.stride // 2}"
        raise UsageError(f"network.stride is {stride}, which {name} cannot have", f"Write {have}, or 0")
    if stride == backbone.stride // 2:
        backbone.halve_stride()
    return backbone


def _with_weights(name: str, weights: str | Path) -> Backbone:
    if weights == "none":
        backbone = BACKBONES[name](None)
        backbone.frozen = 0
        return backbone
    if weights == "imagenet":
        try:
            return BACKBONES[name]("IMAGENET1K_V1" if name != "small" else weights)
        except (OSError, RuntimeError) as error:
            raise FrcnnError(
                f"the ImageNet weights of {name} could not be downloaded ({error})",
                "Fetch them elsewhere and name the file with --weights FILE, or start from nothing with --weights none",
            ) from None
    return _from_file(name, Path(weights))


def _from_file(name: str, path: Path) -> Backbone:
    if name == "small":
        return small(path)
    state = _read_state_dict(path)
    net = getattr(models, name)(weights=None)
    own = net.state_dict()
    for key, value in own.items():
        if key not in state:
            raise FileFormatError(
                f"{path} has no tensor {key!r} of {name}", f"Name a state dict of torchvision's {name}"
            )
        if state[key].shape != value.shape:
            have, want = list(state[key].shape), list(value.shape)
            raise FileFormatError(f"{path}: {key} is {have}, not {want}", f"Name a state dict of torchvision's {name}")
    extra = sorted(set(state) - set(own))
    if extra:
        raise FileFormatError(f"{path} has a tensor {extra[0]!r} that {name} lacks", f"Is it a state dict of {name}?")
    backbone = BACKBONES[name](None)
    # The new fc layers of SqueezeNet are not in the file; all else of the classification net is.
    net.load_state_dict(state)
    backbone.conv.load_state_dict(net.features[: len(backbone.conv)].state_dict())
    linear = [layer for layer in net.classifier if isinstance(layer, nn.Linear)]
    for layer, source in zip((backbone.fc6, backbone.fc7), linear, strict=False):
        layer.load_state_dict(source.state_dict())
    return backbone


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    from pickle import UnpicklingError

    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise explain_os_error(error, path) from None
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise FileFormatError(
            f"{path} is not a file of weights ({reason})", "Name a state dict (.pth, .safetensors)"
        ) from None
    tensors = isinstance(state, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items())
    if not tensors:
        raise FileFormatError(f"{path} is not a state dict", "Save it with torch.save(net.state_dict(), path)")
    return dict(state)


def _new_layers(inputs: int, hidden: int) -> tuple[nn.Linear, nn.Linear]:
    """Two fully connected layers to be learnt from nothing.

    PyTorch's own initialisation, about 0.4 of He's spread: SqueezeNet's maps are large (RMS 28 on BCCD), and with He's
    the first loss there is 24 and training at rate 0.004 diverges.
    """
    return nn.Linear(inputs, hidden), nn.Linear(hidden, hidden)
