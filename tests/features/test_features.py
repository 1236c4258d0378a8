import numpy as np
import pytest
import torch

from frcnn_cli.errors import FrcnnError
from frcnn_cli.features.backbones import BACKBONES, build
from frcnn_cli.features.columns import from_columns, to_columns
from frcnn_cli.features.transform import ImageTransform


@pytest.mark.parametrize(
    ("size", "scale"),
    [((375, 500), 1.6), ((500, 375), 1.6), ((480, 640), 1.25), ((300, 1000), 1.0), ((333, 500), 600 / 333)],
)
def test_short_side_600_long_side_1000(size, scale):
    assert ImageTransform().scale_for(*size) == pytest.approx(scale)


def test_the_long_side_binds():
    transform = ImageTransform()
    pixels = np.zeros((100, 900, 3), np.uint8)
    tensor, scale = transform(pixels)
    assert scale == 1000 / 900
    assert tensor.shape == (3, 111, 1000)


def test_normalisation_and_resizing():
    pixels = np.full((30, 40, 3), (124, 116, 104), np.uint8)
    tensor, scale = ImageTransform(short_side=90, long_side=150)(pixels)
    assert tensor.shape == (3, 90, 120)
    assert scale == 3
    assert tensor.dtype == torch.float32
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = (np.array([124, 116, 104]) / 255 - mean) / std
    np.testing.assert_allclose(tensor.mean(dim=(1, 2)).numpy(), expected, atol=1e-5)


def test_images_at_their_own_size_down_to_one_pixel():
    for shape in ((1, 1, 3), (3, 500, 3), (100, 90, 3)):
        tensor, scale = ImageTransform(short_side=0)(np.full(shape, 255, np.uint8))
        assert scale == 1
        height, width = shape[:2]
        assert tensor.shape == (3, max(height, 64), max(width, 64))
        assert (tensor[:, :height, :width] > 1).all()
        assert tensor[:, height:].abs().sum() == tensor[:, :, width:].abs().sum() == 0
    tensor, _ = ImageTransform()(np.zeros((1, 5000, 3), np.uint8))
    assert tensor.shape == (3, 64, 1000)


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 2000, 3), (2000, 3, 3)])
def test_extreme_images_pass_every_backbone(name, shape):
    for transform in (ImageTransform(short_side=0), ImageTransform(short_side=128, long_side=200)):
        tensor, _ = transform(np.zeros(shape, np.uint8))
        with torch.inference_mode():
            assert min(build(name).conv(tensor[None]).shape[2:]) >= 1


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_is_what_it_says(name):
    backbone = build(name)
    with torch.inference_mode():
        features = backbone.conv(torch.zeros(1, 3, 224, 256))
    assert features.shape[1] == backbone.channels
    for size, have in zip((224, 256), features.shape[2:], strict=True):
        assert abs(have - size / backbone.stride) <= 1.5
    assert backbone.fc6.in_features == backbone.channels * backbone.grid**2
    assert backbone.fc7.in_features == backbone.fc6.out_features
    assert backbone.frozen == 0  # random weights are not to be kept
    assert not isinstance(backbone.conv[-1], torch.nn.MaxPool2d)
    assert BACKBONES[name].__doc__


def test_frozen_layers_are_the_papers():
    vgg, alex = BACKBONES["vgg16"](None), BACKBONES["alexnet"](None)
    convs = [sum(isinstance(layer, torch.nn.Conv2d) for layer in b.conv[: b.frozen]) for b in (vgg, alex)]
    assert convs == [4, 1]  # conv1_1 to conv2_2; conv1
    assert (vgg.grid, alex.grid) == (7, 6)


def test_weights_from_a_file_reach_every_layer(tmp_path):
    from torchvision import models

    torch.manual_seed(1)
    net = models.alexnet()
    torch.save(net.state_dict(), tmp_path / "alex.pth")
    backbone = build("alexnet", tmp_path / "alex.pth")
    assert torch.equal(backbone.conv[0].weight, net.features[0].weight)
    assert torch.equal(backbone.conv[10].weight, net.features[10].weight)
    assert torch.equal(backbone.fc6.weight, net.classifier[1].weight)
    assert torch.equal(backbone.fc7.bias, net.classifier[4].bias)
    assert backbone.frozen == 3


def test_real_squeezenet_weights(shared_data):
    backbone = build("squeezenet1_0", shared_data / "weights/squeezenet1_0_tv.pth")
    state = torch.load(shared_data / "weights/squeezenet1_0_tv.pth", weights_only=True)
    assert torch.equal(backbone.conv[12].expand3x3.weight, state["features.12.expand3x3.weight"])


class Evil:
    def __reduce__(self):
        return (open, ("/tmp/frcnn-weights-were-here", "w"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"features.0.weight": torch.zeros(3)}, r"features\.0\.weight is \[3\]"),
        ({}, "has no tensor 'features.0.weight'"),
        ([1, 2], "not a state dict"),
        ({"a": 1}, "not a state dict"),
        (Evil(), "not a file of weights"),
    ],
)
def test_files_that_are_not_the_weights_of_this_network(tmp_path, content, words):
    from pathlib import Path

    mark = Path("/tmp/frcnn-weights-were-here")
    mark.unlink(missing_ok=True)
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(FrcnnError, match=words):
        build("alexnet", tmp_path / "w.pth")
    assert not mark.exists()


def test_weight_files_that_are_missing_cut_or_of_another_kind(tmp_path):
    with pytest.raises(FrcnnError, match="no such file"):
        build("alexnet", tmp_path / "none.pth")
    for name in ("w.pth", "w.safetensors"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 nonsense")
        with pytest.raises(FrcnnError, match="not a file of weights"):
            build("alexnet", tmp_path / name)
    with pytest.raises(FrcnnError, match="no pretrained"):
        build("small", "imagenet")


def test_maps_to_columns_and_back():
    features = torch.arange(2 * 3 * 5, dtype=torch.float16).reshape(1, 5, 2, 3)
    columns = to_columns(features, 1.25)
    assert columns["maps"].shape == (6, 5)
    assert columns["maps"][1].tolist() == features[0, :, 0, 1].tolist()  # a cell's channels lie together
    again, scale = from_columns(columns)
    assert torch.equal(again, features)
    assert scale == 1.25
    with pytest.raises(ValueError, match="6 cells do not make a map of 2 x 4"):
        from_columns(columns | {"map_size": np.array([2, 4], np.int32)})
