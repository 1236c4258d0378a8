"""VGG (Simonyan and Zisserman, 2015): the paper's "L", and its shallower and batch-normalised variants.

The layers are torchvision's, but they are defined here: importing torchvision imports torch._dynamo, which takes as
long as importing torch, and `frcnn detect` needs neither. A test compares both, weights by name and maps by value.
"""

from __future__ import annotations

from functools import partial

from torch import nn

from frcnn_cli.features.backbones.backbone import Backbone, freeze_batch_norm, indices_of, numbered_by_block
from frcnn_cli.features.backbones.loading import Weights

# Channels of the conv layers of each block; a block ends with max pooling.
BLOCKS = {
    "vgg11": ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    "vgg13": ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512)),
    "vgg16": ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
}


class VGG(nn.Module):
    """Layers, names and initialisation of torchvision's VGG. ceil_mode: round sizes of pooled maps up, like Caffe."""

    def __init__(self, blocks: tuple[tuple[int, ...], ...], batch_norm: bool, ceil_mode: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for block in blocks:
            for width in block:
                layers.append(nn.Conv2d(channels, width, 3, padding=1))
                layers += [nn.BatchNorm2d(width)] if batch_norm else []
                layers.append(nn.ReLU(inplace=True))
                channels = width
            layers.append(nn.MaxPool2d(2, 2, ceil_mode=ceil_mode))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            *(nn.Linear(512 * 7 * 7, 4096), nn.ReLU(inplace=True), nn.Dropout()),
            *(nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout()),
            nn.Linear(4096, 1000),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
            if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
                nn.init.zeros_(module.bias)


def vgg(name: str, weights: Weights) -> Backbone:
    """Stride 16, 512 channels, 7x7 grid, two fully connected layers of 4096; conv1 and conv2 frozen. In the "_bn"
    variants, batch normalisation is frozen in all layers."""
    return _backbone(weights.into(VGG(BLOCKS[name.removesuffix("_bn")], name.endswith("_bn"))))


def vgg16_caffe(weights: Weights) -> Backbone:
    """The paper's "L" for weights converted from Caffe, under torchvision's names of tensors: stride 16, 512 channels,
    7x7 grid; conv1 and conv2 frozen. Pooled maps are rounded up: 600 x 800 pixels become 38 x 50 cells, not 37 x 50."""
    return _backbone(weights.into(VGG(BLOCKS["vgg16"], batch_norm=False, ceil_mode=True)))


def _backbone(net: VGG) -> Backbone:
    freeze_batch_norm(net)
    conv = net.features[:-1]
    assert isinstance(conv, nn.Sequential)
    frozen = indices_of(conv, nn.MaxPool2d)[1] + 1
    hidden = (net.classifier[0], net.classifier[3])
    return Backbone(conv, hidden, 512, 16, (7, 7), frozen, numbered_by_block(conv))  # type: ignore[arg-type]


VGGS = {name: partial(vgg, name) for name in ("vgg16", "vgg11", "vgg13", "vgg11_bn", "vgg13_bn", "vgg16_bn")}
