"""AlexNet (Krizhevsky, 2014: one column, fewer channels than in 2012), with torchvision's layers and names."""

from __future__ import annotations

from torch import nn

from frcnn_cli.features.backbones.backbone import Backbone, numbered
from frcnn_cli.features.backbones.loading import Weights


class AlexNet(nn.Module):
    """The layers, names and initialisation of torchvision's `alexnet`, defined here because importing torchvision is
    slow (see vgg)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(64, 192, 5, 1, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(192, 384, 3, 1, 1), nn.ReLU(inplace=True)),
            *(nn.Conv2d(384, 256, 3, 1, 1), nn.ReLU(inplace=True)),
            *(nn.Conv2d(256, 256, 3, 1, 1), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)),
        )
        self.classifier = nn.Sequential(
            *(nn.Dropout(), nn.Linear(256 * 6 * 6, 4096), nn.ReLU(inplace=True)),
            *(nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(inplace=True)),
            nn.Linear(4096, 1000),
        )


def alexnet(weights: Weights) -> Backbone:
    """Similar to the paper's "S": stride 16, 256 channels, grid 6, two hidden layers of 4096 units; conv1 frozen."""
    net = weights.into(AlexNet())
    conv = net.features[:-1]
    return Backbone(conv, (net.classifier[1], net.classifier[4]), 256, 16, (6, 6), 3, numbered(conv))  # type: ignore[arg-type]
