"""SqueezeNet (Iandola et al., 2016): ImageNet accuracy of AlexNet with few weights, small enough for a CPU."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from frcnn_cli.features.backbones.backbone import Backbone, indices_of, new_hidden_layers
from frcnn_cli.features.backbones.loading import Weights

# "P" is max pooling, a triple is a fire module: inputs, squeezed channels, channels of each expansion.
_STEM = {"squeezenet1_0": (96, 7), "squeezenet1_1": (64, 3)}  # channels and kernel size of conv1
_FIRES: dict[str, tuple[tuple[int, int, int] | str, ...]] = {
    "squeezenet1_0": (
        *("P", (96, 16, 64), (128, 16, 64), (128, 32, 128)),
        *("P", (256, 32, 128), (256, 48, 192), (384, 48, 192), (384, 64, 256)),
        *("P", (512, 64, 256)),
    ),
    "squeezenet1_1": (
        *("P", (64, 16, 64), (128, 16, 64)),
        *("P", (128, 32, 128), (256, 32, 128)),
        *("P", (256, 48, 192), (384, 48, 192), (384, 64, 256), (512, 64, 256)),
    ),
}


class Fire(nn.Module):
    """1x1 convolutions that squeeze, then 1x1 and 3x3 convolutions side by side that expand."""

    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.squeeze_activation = nn.ReLU(inplace=True)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand1x1_activation = nn.ReLU(inplace=True)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)
        self.expand3x3_activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, h, w] -> [B, 2 * expanded, h, w]."""
        x = self.squeeze_activation(self.squeeze(x))
        left, right = self.expand1x1_activation(self.expand1x1(x)), self.expand3x3_activation(self.expand3x3(x))
        return torch.cat([left, right], 1)


class SqueezeNet(nn.Module):
    """Layers, names and initialisation of torchvision's SqueezeNet, whose import takes as long as torch's (see vgg)."""

    def __init__(self, name: str) -> None:
        super().__init__()
        width, kernel = _STEM[name]
        layers: list[nn.Module] = [nn.Conv2d(3, width, kernel, stride=2), nn.ReLU(inplace=True)]
        layers += [
            nn.MaxPool2d(3, 2, ceil_mode=True) if isinstance(fire, str) else Fire(*fire) for fire in _FIRES[name]
        ]
        self.features = nn.Sequential(*layers)
        last = nn.Conv2d(512, 1000, 1)
        self.classifier = nn.Sequential(nn.Dropout(), last, nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                if module is last:
                    nn.init.normal_(module.weight, std=0.01)
                else:
                    nn.init.kaiming_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def squeezenet(name: str, weights: Weights) -> Backbone:
    """Stride 16, 512 channels, 7x7 grid; its classifier is a conv layer, so there are two new fully connected layers of
    1024; conv1 frozen."""
    net = weights.into(SqueezeNet(name))
    layers = {"conv1": 0, **{f"fire{i}": at for i, at in enumerate(indices_of(net.features, Fire), 2)}}
    return Backbone(net.features, new_hidden_layers(512 * 7 * 7, 1024), 512, 16, (7, 7), 3, layers)


SQUEEZENETS = {name: partial(squeezenet, name) for name in _FIRES}
