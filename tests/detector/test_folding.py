"""Conv layers for detection compute what the original layers compute."""

import copy

import pytest
import torch
from torch import nn

from frcnn_cli.detector.folding import DetectionLayers, FusedConv, FusedPyramid, for_detection
from frcnn_cli.features.backbones import build_network
from frcnn_cli.recipes.sections import Network
from frcnn_cli.roi.levels import as_tuple

NETWORKS = [
    Network(backbone="squeezenet1_0"),
    Network(backbone="vgg_cnn_m_1024"),
    Network(backbone="resnet18"),
    Network(backbone="resnet50", pyramid=True),
    Network(backbone="mobilenet_v3_large"),
    Network(backbone="mobilenet_v3_large", pyramid=True),
]


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: f"{network.backbone}-{network.pyramid}")
@torch.inference_mode()
def test_equal_to_the_original_layers(network):
    torch.manual_seed(0)
    conv = build_network(network).conv.eval()
    for layer in conv.modules():
        if type(layer).__name__ == "FrozenBatchNorm2d":
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
    made = for_detection(conv)
    for size in ((96, 128), (67, 33), (96, 128)):
        image = torch.randn(2, 3, *size).to(memory_format=torch.channels_last)
        for expected, found in zip(as_tuple(conv(image)), as_tuple(made(image)), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_the_activation_becomes_part_of_the_layer_before_it():
    layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.MaxPool2d(2), nn.ReLU())
    made = for_detection(layers)
    if made is layers:
        pytest.skip("this build of PyTorch lacks oneDNN's fused operators")
    assert [layer.activation for layer in made if isinstance(layer, FusedConv)] == ["relu", "none"]
    image = torch.randn(1, 3, 20, 20)
    with torch.inference_mode():
        torch.testing.assert_close(made(image), layers(image))


def test_a_pyramid_is_fused():
    conv = build_network(Network(backbone="resnet18", pyramid=True)).conv.eval()
    made = for_detection(conv)
    if made is conv:
        pytest.skip("this build of PyTorch lacks oneDNN's fused operators")
    assert isinstance(made[-1], FusedPyramid)


def test_layers_of_another_padding_are_left_as_they_are():
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect"), nn.ReLU(), nn.Conv2d(8, 8, 3, padding="same")
    )
    image = torch.randn(1, 3, 20, 20)
    with torch.inference_mode():
        torch.testing.assert_close(for_detection(layers)(image), layers(image))


def test_made_again_when_a_weight_changes():
    layers, made = nn.Sequential(nn.Conv2d(3, 200, 3), nn.ReLU()), DetectionLayers()
    image = torch.randn(1, 3, 20, 20)
    with torch.no_grad():
        made.of(layers)(image)
        assert made.of(layers) is made.of(layers)
        for change in (lambda: layers[0].weight.mul_(2), lambda: setattr(layers, "0", nn.Conv2d(3, 200, 3))):
            change()
            torch.testing.assert_close(made.of(layers)(image), layers(image))


def test_a_copy_has_layers_of_its_own():
    layers, made = nn.Sequential(nn.Conv2d(64, 512, 3)), DetectionLayers()
    image = torch.randn(1, 64, 20, 20)
    with torch.no_grad():
        made.of(layers)(image)  # packs the weights, which PyTorch cannot copy
        torch.testing.assert_close(copy.deepcopy(made).of(layers)(image), layers(image))
