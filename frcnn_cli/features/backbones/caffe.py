"""The paper's small and medium networks ("S" and "M"), with the padding of the authors' Caffe files.

Caffe rounds the size of a pooled map up (`ceil_mode`). An image of 600 x 800 pixels becomes a map of 39 x 51 cells (S)
or 36 x 49 (M).

torchvision has no weights for them. `--weights FILE` reads a state dict converted from Caffe: its tensors are
`conv1.weight` ... `conv5.bias`, `fc6.weight` ... `fc7.bias`, and fc6 reads [channels, 6, 6].
"""

from __future__ import annotations

from torch import nn

from frcnn_cli.features.backbones.backbone import Backbone, indices_of
from frcnn_cli.features.backbones.loading import Weights


class CaffeNet(nn.Module):
    """CaffeNet (Krizhevsky's network on one GPU, with pooling before normalisation)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 96, 11, 4, 5)
        self.conv2 = nn.Conv2d(96, 256, 5, 1, 2, groups=2)
        self.conv3 = nn.Conv2d(256, 384, 3, 1, 1)
        self.conv4 = nn.Conv2d(384, 384, 3, 1, 1, groups=2)
        self.conv5 = nn.Conv2d(384, 256, 3, 1, 1, groups=2)
        self.fc6, self.fc7 = nn.Linear(256 * 6 * 6, 4096), nn.Linear(4096, 4096)

    def sequential(self) -> nn.Sequential:
        return nn.Sequential(
            *(self.conv1, nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1, ceil_mode=True), _normalisation()),
            *(self.conv2, nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1, ceil_mode=True), _normalisation()),
            *(self.conv3, nn.ReLU(inplace=True), self.conv4, nn.ReLU(inplace=True)),
            *(self.conv5, nn.ReLU(inplace=True)),
        )


class VGGCNNM1024(nn.Module):
    """VGG_CNN_M_1024 (Chatfield et al., 2014)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 96, 7, 2)
        self.conv2 = nn.Conv2d(96, 256, 5, 2, 1)
        self.conv3 = nn.Conv2d(256, 512, 3, 1, 1)
        self.conv4 = nn.Conv2d(512, 512, 3, 1, 1)
        self.conv5 = nn.Conv2d(512, 512, 3, 1, 1)
        self.fc6, self.fc7 = nn.Linear(512 * 6 * 6, 4096), nn.Linear(4096, 1024)

    def sequential(self) -> nn.Sequential:
        return nn.Sequential(
            *(self.conv1, nn.ReLU(inplace=True), _normalisation(0.0005, 2.0), nn.MaxPool2d(3, 2, ceil_mode=True)),
            *(self.conv2, nn.ReLU(inplace=True), _normalisation(0.0005, 2.0), nn.MaxPool2d(3, 2, ceil_mode=True)),
            *(self.conv3, nn.ReLU(inplace=True), self.conv4, nn.ReLU(inplace=True)),
            *(self.conv5, nn.ReLU(inplace=True)),
        )


def caffenet(weights: Weights) -> Backbone:
    """The paper's "S": stride 16, 256 channels, 6x6 grid, two fully connected layers of 4096; conv1 frozen."""
    return _backbone(weights.into(CaffeNet()), 256)


def vgg_cnn_m_1024(weights: Weights) -> Backbone:
    """The paper's "M": stride 16, 512 channels, 6x6 grid, fully connected layers of 4096 and 1024; conv1 frozen."""
    return _backbone(weights.into(VGGCNNM1024()), 512)


def _backbone(net: CaffeNet | VGGCNNM1024, channels: int) -> Backbone:
    conv = net.sequential()
    starts = indices_of(conv, nn.Conv2d)
    layers = {f"conv{number}": at for number, at in enumerate(starts, 1)}
    return Backbone(conv, (net.fc6, net.fc7), channels, 16, (6, 6), starts[1], layers)


def _normalisation(alpha: float = 0.0001, k: float = 1.0) -> nn.LocalResponseNorm:
    """Normalisation over five channels. Both Caffe and PyTorch divide alpha by the number of channels."""
    return nn.LocalResponseNorm(5, alpha, 0.75, k)
