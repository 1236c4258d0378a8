import copy
from typing import get_args

import numpy as np
import pytest
import torch

from frcnn_cli.core.errors import FrcnnError, UsageError
from frcnn_cli.detector.config import ModelConfig
from frcnn_cli.detector.detector import make_head
from frcnn_cli.features.backbones import BACKBONES, build
from frcnn_cli.features.backbones.loading import Weights
from frcnn_cli.features.columns import from_columns, to_columns
from frcnn_cli.features.transform import ImageTransform
from frcnn_cli.recipes.sections import BackboneName, Network
from frcnn_cli.roi.rois import RoIs
from tests.conftest import ROOT
from tests.detector.test_model import PROPOSALS

DOCS = (ROOT / "docs" / "recipes.md").read_text()


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


@pytest.fixture(scope="module", params=list(BACKBONES))
def backbone(request):
    """Each once: drawing VGG's weights takes a second."""
    made = BACKBONES[request.param].build(Weights(request.param, "none"))
    made.name = request.param
    return made


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 2000, 3), (2000, 3, 3)])
def test_extreme_images_pass_every_backbone(backbone, shape):
    for transform in (ImageTransform(short_side=0), ImageTransform(short_side=128, long_side=200)):
        tensor, _ = transform(np.zeros(shape, np.uint8))
        with torch.inference_mode():
            assert min(backbone.conv(tensor[None]).shape[2:]) >= 1


def test_every_backbone_is_what_it_says(backbone):
    with torch.inference_mode():
        features = backbone.conv(torch.zeros(1, 3, 224, 256))
    assert features.shape[1] == backbone.channels
    for size, have in zip((224, 256), features.shape[2:], strict=True):
        assert abs(have - size / backbone.stride) <= 1.5
    assert not isinstance(backbone.conv[-1], torch.nn.MaxPool2d)
    assert not [m for m in backbone.conv.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    head = make_head(ModelConfig(Network(backbone.name), ("a", "b"), ImageTransform(), PROPOSALS), backbone).eval()
    boxes = np.array([[10, 10, 200, 180], [0, 0, 30, 30]], np.float32)
    with torch.inference_mode():
        logits, deltas = head(features, RoIs.of_images([boxes], [1.0]))
        assert [*map(len, head(features, RoIs.of_images([boxes[:0]], [1.0])))] == [0, 0]
    assert (logits.shape, deltas.shape) == ((2, 3), (2, 3, 4))
    function = getattr(BACKBONES[backbone.name].build, "func", BACKBONES[backbone.name].build)
    assert all(word in function.__doc__ for word in ("tride", "channels", "grid", "frozen"))
    assert f"`{backbone.name}`" in DOCS


def test_layers_are_named_where_they_begin(backbone):
    starts = list(backbone.layers.values())
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    assert all(any(True for _ in backbone.conv[at].parameters()) for at in starts)
    for name, at in backbone.layers.items():
        assert backbone.frozen_before(name) == at
    assert backbone.frozen_before("") == backbone.frozen
    assert backbone.frozen_before("fc6") == len(backbone.conv)
    with pytest.raises(UsageError, match="is not a layer.*or fc6"):
        backbone.frozen_before("conv99")


def test_the_centres_of_cells_are_where_they_are_said_to_be(backbone):
    """The centre of mass of the gradient of a cell, with equal weights, is the centre of the cell."""
    if backbone.name in ("vgg11", "vgg13", "vgg16_caffe", "vgg11_bn", "vgg13_bn", "vgg16_bn"):
        pytest.skip("has the windows of vgg16, with fewer layers")
    size = 31 * backbone.stride
    image = torch.ones(1, 3, size, size, requires_grad=True)
    features = _averaging(copy.deepcopy(backbone.conv))(image)
    at = features.shape[2] // 2
    features[0, :, at, at].sum().backward()
    mass = image.grad[0].sum(0).double()
    assert (mass >= 0).all()
    expected = (at + 0.5) * backbone.stride + backbone.cell_offset
    for axis in (0, 1):
        along = mass.sum(axis)
        centre = ((torch.arange(size) + 0.5) * along).sum() / along.sum()
        assert centre.item() == pytest.approx(expected, abs=0.1)


def _averaging(module):
    """The same windows, but every layer takes the mean, so that every pixel in reach has its part in the gradient."""
    for name, child in module.named_children():
        if isinstance(child, torch.nn.Conv2d):
            torch.nn.init.constant_(child.weight, 1 / child.weight[0].numel())
            if child.bias is not None:
                torch.nn.init.zeros_(child.bias)
        elif isinstance(child, torch.nn.MaxPool2d):
            mean = torch.nn.AvgPool2d(child.kernel_size, child.stride, child.padding, child.ceil_mode)
            setattr(module, name, mean)
        elif type(child).__name__ in ("LocalResponseNorm", "SqueezeExcitation", "FrozenBatchNorm2d"):
            setattr(module, name, torch.nn.Identity())
        else:
            _averaging(child)
    return module


@pytest.mark.parametrize(
    ("name", "height", "width"),
    [("vgg16_caffe", 38, 50), ("caffenet", 39, 51), ("vgg_cnn_m_1024", 36, 49), ("vgg16", 37, 50)],
)
def test_the_size_of_the_papers_maps(name, height, width):
    """fidelity, Network: 600 x 800 pixels. torchvision's vgg16 rounds down, as its weights were trained."""
    with torch.device("meta"):
        conv = BACKBONES[name].build(Weights(name, "none")).conv
        assert conv(torch.zeros(1, 3, 600, 800)).shape[2:] == (height, width)


# Of the authors' Caffe files: per layer its kernel, stride and padding; pooling rounds up.
CAFFE = {
    "caffenet": "conv1 11 4 5, pool 3 2 1, norm, conv2 5 1 2 2, pool 3 2 1, norm, conv3 3 1 1, conv4 3 1 1 2,"
    " conv5 3 1 1 2",
    "vgg_cnn_m_1024": "conv1 7 2 0, norm, pool 3 2 0, conv2 5 2 1, norm, pool 3 2 0, conv3 3 1 1, conv4 3 1 1,"
    " conv5 3 1 1",
}


def caffe_pooled(x, size, stride, padding):
    """Caffe's max pooling: as many windows as begin inside the image or its left padding, clipped to the image."""
    height, width = (
        min(-(-(side + 2 * padding - size) // stride) + 1, -(-(side + padding) // stride)) for side in x.shape[2:]
    )
    rows = [(max(i * stride - padding, 0), i * stride - padding + size) for i in range(height)]
    columns = [(max(j * stride - padding, 0), j * stride - padding + size) for j in range(width)]
    cells = [[x[:, :, a:b, c:d].amax((2, 3)) for c, d in columns] for a, b in rows]
    return torch.stack([torch.stack(row, -1) for row in cells], -2)


def caffe_normalised(x, alpha, k):
    """Local response normalisation across five channels: x / (k + alpha / 5 * sum of squares) ** 0.75."""
    squares = torch.nn.functional.pad(x**2, (0, 0, 0, 0, 2, 2))
    total = sum(squares[:, i : i + x.shape[1]] for i in range(5))
    return x / (k + alpha / 5 * total) ** 0.75


@pytest.mark.parametrize("shape", [(97, 130), (64, 75)])
@pytest.mark.parametrize("name", list(CAFFE))
def test_maps_of_converted_caffe_weights(name, shape, tmp_path):
    """Random weights in the converted layout, against a plain reference of the authors' layers."""
    torch.manual_seed(0)
    state = {key: 0.05 * torch.randn_like(value) for key, value in named_weights(name).items()}
    torch.save(state, tmp_path / "converted.pth")
    image = torch.rand(1, 3, *shape) - 0.5
    expected = image
    for line in CAFFE[name].split(", "):
        kind, *numbers = line.split()
        if kind == "norm":
            expected = caffe_normalised(expected, *((0.0001, 1.0) if name == "caffenet" else (0.0005, 2.0)))
        elif kind == "pool":
            expected = caffe_pooled(expected, *map(int, numbers))
        else:
            _, stride, padding, *groups = map(int, numbers)
            weight, bias = state[f"{kind}.weight"], state[f"{kind}.bias"]
            expected = torch.conv2d(expected, weight, bias, stride, padding, groups=(groups or [1])[0]).relu()
    with torch.inference_mode():
        torch.testing.assert_close(build(name, weights=tmp_path / "converted.pth").conv(image), expected)


def test_maps_of_vgg16_with_caffes_rounding():
    torch.manual_seed(0)
    conv = build("vgg16_caffe").conv
    x = torch.rand(1, 3, 70, 90)
    with torch.inference_mode():
        found, expected = conv(x), x
        for layer in conv:
            pool = isinstance(layer, torch.nn.MaxPool2d)
            expected = caffe_pooled(expected, 2, 2, 0) if pool else layer(expected.clone())
    torch.testing.assert_close(found, expected)


def named_weights(name):
    from frcnn_cli.features.backbones.caffe import VGGCNNM1024, CaffeNet

    with torch.random.fork_rng():
        return (CaffeNet if name == "caffenet" else VGGCNNM1024)().state_dict()


def test_recipes_name_every_backbone():
    assert set(get_args(BackboneName)) == set(BACKBONES)


def test_random_weights_are_not_kept():
    assert build("alexnet").frozen == 0


@pytest.mark.parametrize(("name", "convs", "grid"), [("vgg16", 4, 7), ("vgg_cnn_m_1024", 1, 6), ("caffenet", 1, 6)])
def test_frozen_layers_and_grids_are_the_papers(name, convs, grid):
    """fidelity: conv1 for S and M, conv1 and conv2 for VGG16; 7x7 for VGG16, 6x6 for S and M."""
    with torch.device("meta"):
        made = BACKBONES[name].build(Weights(name, "none"))
    assert sum(isinstance(layer, torch.nn.Conv2d) for layer in made.conv[: made.frozen]) == convs
    assert (made.grid, made.stride) == ((grid, grid), 16)


@pytest.mark.parametrize(("name", "widths"), [("vgg16", (4096, 4096)), ("vgg_cnn_m_1024", (4096, 1024))])
def test_hidden_layers_are_the_papers(name, widths):
    with torch.device("meta"):
        made = BACKBONES[name].build(Weights(name, "none"))
    assert tuple(layer.out_features for layer in made.hidden) == widths


@pytest.mark.parametrize("name", ["squeezenet1_0", "resnet18", "mobilenet_v3_large", "alexnet", "vgg11_bn", "small"])
def test_a_fine_map_is_twice_as_large(name):
    whole, fine = build(name), build(name, fine=True)
    with torch.inference_mode():
        sizes = [made.conv(torch.zeros(1, 3, 320, 320)).shape[2] for made in (whole, fine)]
    assert abs(sizes[1] - 2 * sizes[0]) <= 2
    assert fine.stride == whole.stride / 2
    assert [p.shape for p in fine.conv.parameters()] == [p.shape for p in whole.conv.parameters()]


def test_the_pixels_that_caffes_models_were_trained_on():
    """fidelity: BGR, mean 102.9801, 115.9465, 122.7717 subtracted first, then bilinear resize."""
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[..., 0] = 200  # red
    tensor, _ = ImageTransform.as_trained("caffe", short_side=0)(pixels)
    torch.testing.assert_close(tensor[:, 0, 0], torch.tensor([-102.9801, -115.9465, 200 - 122.7717]), atol=1e-4, rtol=0)
    assert BACKBONES["caffenet"].normalisation == "caffe"


def test_caffes_networks_have_no_download():
    with pytest.raises(UsageError, match="no weights of caffenet to download"):
        build("caffenet", weights="imagenet")


def test_weights_from_a_file_reach_every_layer(tmp_path):
    from torchvision import models

    torch.manual_seed(1)
    net = models.alexnet()
    torch.save(net.state_dict(), tmp_path / "alex.pth")
    backbone = build("alexnet", weights=tmp_path / "alex.pth")
    assert torch.equal(backbone.conv[0].weight, net.features[0].weight)
    assert torch.equal(backbone.conv[10].weight, net.features[10].weight)
    assert torch.equal(backbone.hidden[0].weight, net.classifier[1].weight)
    assert torch.equal(backbone.hidden[1].bias, net.classifier[4].bias)
    assert backbone.frozen == 3


def test_real_squeezenet_weights(shared_data):
    backbone = build("squeezenet1_0", weights=shared_data / "weights/squeezenet1_0_tv.pth")
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
        build("alexnet", weights=tmp_path / "w.pth")
    assert not mark.exists()


def test_weight_files_that_are_missing_cut_or_of_another_kind(tmp_path):
    with pytest.raises(FrcnnError, match="no such file"):
        build("alexnet", weights=tmp_path / "none.pth")
    for name in ("w.pth", "w.safetensors"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 nonsense")
        with pytest.raises(FrcnnError, match="not a file of weights"):
            build("alexnet", weights=tmp_path / name)
    with pytest.raises(FrcnnError, match="no weights of small to download"):
        build("small", weights="imagenet")


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


@pytest.mark.parametrize("name", ["vgg11", "vgg11_bn", "alexnet", "squeezenet1_0", "squeezenet1_1"])
def test_networks_defined_here_are_torchvisions(name):
    """They are defined here, so that detection need not import torchvision; the same seed gives the same weights."""
    from torchvision import models

    from frcnn_cli.features.backbones.alexnet import AlexNet
    from frcnn_cli.features.backbones.squeezenet import SqueezeNet
    from frcnn_cli.features.backbones.vgg import BLOCKS, VGG

    made = {
        "vgg11": lambda: VGG(BLOCKS["vgg11"], False),
        "vgg11_bn": lambda: VGG(BLOCKS["vgg11"], True),
        "alexnet": AlexNet,
        "squeezenet1_0": lambda: SqueezeNet(name),
        "squeezenet1_1": lambda: SqueezeNet(name),
    }
    torch.manual_seed(3)
    ours = made[name]()
    torch.manual_seed(3)
    theirs = getattr(models, name)()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for key, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value), key
    image = torch.rand(1, 3, 96, 128)
    with torch.inference_mode():
        torch.testing.assert_close(ours.eval().features(image), theirs.eval().features(image), rtol=0, atol=0)
