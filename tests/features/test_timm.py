"""Networks of timm, and backbones of plugins. Those of timm need the extra frcnn-cli[timm]."""

import copy
import sys
import types

import numpy as np
import pytest
import torch

from frcnn_cli.core.errors import FileFormatError, FrcnnError, UsageError
from frcnn_cli.core.image import Image
from frcnn_cli.detector.detector import Detector
from frcnn_cli.detector.folding import for_detection
from frcnn_cli.features.backbones import build, families
from frcnn_cli.features.backbones.families import Families
from frcnn_cli.features.hook import Backbone, BackboneFamily, BackboneSpec, MeanStd, hookimpl, new_hidden_layers
from frcnn_cli.recipes.recipe import Recipe
from frcnn_cli.testing import check_backbone
from tests.conftest import assert_one_line_error, run_frcnn
from tests.detector.seeded import picture
from tests.features.test_features import _averaging

NETWORKS = ("convnext_atto", "resnet18", "efficientnet_b0", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224")


@pytest.mark.extra
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_timm(name, tmp_path):
    """Everything that the stages rely on; and a model with the network is saved and loaded."""
    pytest.importorskip("timm")
    check_backbone(f"timm:{name}")
    recipe = Recipe().changed({"network.backbone": f"timm:{name}", "images.short_side": 128})
    made = Detector.untrained(recipe, "none", "cpu")
    made.save(tmp_path / "m.safetensors")
    again = Detector.load(tmp_path / "m.safetensors", "cpu")
    assert again.model_id == made.model_id
    image = Image.from_array(picture(1, 231, 317), "a")
    boxes = np.array([[10, 10, 150, 100], [0, 0, 317, 231]], np.float32)
    found, expected = again.detect(image, boxes), made.detect(image, boxes)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


@pytest.mark.extra
@pytest.mark.parametrize("name", ["convnext_atto", "resnet18", "efficientnet_b0", "tf_efficientnet_b0", "regnety_002"])
def test_the_centres_of_cells_are_found(name):
    """Stride and offset against a numeric probe: the centre of mass of the gradient of a cell with equal weights."""
    pytest.importorskip("timm")
    backbone = build(f"timm:{name}")
    size = 32 * backbone.stride
    image = torch.ones(1, 3, size, size, requires_grad=True)
    conv = _averaging(_without_norms(copy.deepcopy(backbone.conv)))
    features = conv(image)
    at = features.shape[2] // 2
    features[0, :, at, at].sum().backward()
    along = image.grad[0].sum(0).double().abs().sum(0)
    centre = ((torch.arange(size) + 0.5) * along).sum() / along.sum()
    assert features.shape[2] == size // backbone.stride
    assert centre.item() == pytest.approx((at + 0.5) * backbone.stride + backbone.cell_offset, abs=0.6)


def _without_norms(module):
    """Without normalisation, gates and activations, so that gradients are what the windows of the layers make them."""
    for name, child in module.named_children():
        kind = type(child).__name__
        norm = "Norm" in kind and not any(isinstance(layer, torch.nn.Conv2d) for layer in child.modules())
        if norm or kind in ("SqueezeExcite", "SEModule", "SiLU", "GELU", "ReLU", "GlobalResponseNorm"):
            setattr(module, name, torch.nn.Identity())
        else:
            _without_norms(child)
    return module


@pytest.mark.extra
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch14_dinov2"])
def test_the_map_of_a_transformer_is_its_last(name):
    timm = pytest.importorskip("timm")
    network = build(f"timm:{name}").conv[0].network
    whole = timm.create_model(name, pretrained=False)
    assert len(network.model.blocks) == len(whole.blocks)


@pytest.mark.extra
def test_fine_maps_are_refused():
    pytest.importorskip("timm")
    with pytest.raises(UsageError, match="network.fine=true is not supported for timm:resnet18"):
        build("timm:resnet18", fine=True)


@pytest.mark.extra
@pytest.mark.parametrize("name", ["repvit_m0_9", "resnet18", "mobilenetv3_small_050"])
def test_folding_for_detection_changes_nothing(name):
    """Also where modules do not run in the order in which they are listed."""
    pytest.importorskip("timm")
    conv = build(f"timm:{name}").conv.eval()
    generator = torch.Generator().manual_seed(0)
    for key, value in conv.state_dict().items():
        if key.endswith("running_var"):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    image = torch.rand(1, 3, 64, 96, generator=generator)
    with torch.inference_mode():
        expected, found = conv(image), for_detection(conv)(image)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.extra
def test_a_pyramid_of_timm():
    pytest.importorskip("timm")
    backbone = build("timm:convnext_atto", pyramid=True)
    assert backbone.strides == (4, 8, 16, 32)
    with torch.no_grad():
        maps = backbone.conv.eval()(torch.zeros(1, 3, 64, 96))
    assert [tuple(one.shape[1:]) for one in maps] == [(256, 16, 24), (256, 8, 12), (256, 4, 6), (256, 2, 3)]
    with pytest.raises(UsageError, match="at one stride only|does not give maps at several strides"):
        build("timm:vit_tiny_patch16_224", pyramid=True)


@pytest.mark.extra
def test_normalisation_is_timms():
    timm = pytest.importorskip("timm")
    name = "vit_base_patch16_clip_224.openai"
    recipe = Recipe().changed({"network.backbone": f"timm:{name}"})
    with torch.device("meta"):
        from frcnn_cli.detector.config import image_transform

        transform = image_transform(recipe)
    assert transform.mean == tuple(timm.get_pretrained_cfg(name).mean)
    assert transform.std == tuple(timm.get_pretrained_cfg(name).std)


@pytest.mark.extra
def test_weights_from_a_file(tmp_path):
    timm = pytest.importorskip("timm")
    torch.manual_seed(5)
    state = timm.create_model("resnet18").state_dict()
    torch.save(state, tmp_path / "w.pth")
    made = build("timm:resnet18", weights=tmp_path / "w.pth")
    assert torch.equal(made.conv[0].weight, state["conv1.weight"])
    assert made.frozen > 0
    (tmp_path / "text.pth").write_text("no weights")
    torch.save({"x": torch.zeros(1)}, tmp_path / "other.pth")
    for name, message in (("text", "is not a file of weights"), ("other", "lacks the tensor 'conv1.weight'")):
        with pytest.raises(FileFormatError, match=message):
            build("timm:resnet18", weights=tmp_path / f"{name}.pth")
    with pytest.raises(FrcnnError, match="there is no file of weights"):
        build("timm:resnet18", weights=tmp_path / "nothing.pth")


@pytest.mark.extra
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet19", "timm has no network 'resnet19'"),
        ("mixer_b16_224", "timm:mixer_b16_224 cannot be used"),
        ("", "is not the name of a network"),
        ("hf-hub:some/net", "is not the name of a network"),
    ],
)
def test_networks_that_cannot_be_used(name, message):
    pytest.importorskip("timm")
    with pytest.raises(UsageError, match=message):
        build(f"timm:{name}")


def test_without_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(FrcnnError, match=r"timm is not installed. pip install 'frcnn-cli\[timm\]'"):
        build("timm:convnext_tiny")
    ran = run_frcnn("features", ".", "--backbone", "timm:convnext_tiny", "-o", "x.h5")
    assert ran.code == 1
    assert "Traceback" not in ran.err


class Tiny(BackboneFamily):
    """Networks of two conv layers."""

    name = "tiny"

    def names(self):
        return ["a"]

    def spec(self, network):
        if network != "a":
            raise UsageError(f"there is no network {network!r}", "The only one is a")

        def make(weights):
            conv = torch.nn.Sequential(
                torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3, 2, 1), torch.nn.ReLU()
            )
            return Backbone(conv, new_hidden_layers(8 * 49, 16), 8, 4, (7, 7), 0, {"conv1": 0, "conv2": 2})

        return BackboneSpec(make, MeanStd((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))


@pytest.fixture
def with_plugin(monkeypatch):
    """A plugin with backbones, as an entry point loads it."""

    def load(*made):
        plugin = types.ModuleType("plugin")

        @hookimpl
        def frcnn_backbones():
            return list(made)

        plugin.frcnn_backbones = frcnn_backbones
        loaded = Families()
        import pluggy

        from frcnn_cli.features.backbones.family import PROJECT, HookSpec

        manager = pluggy.PluginManager(PROJECT)
        manager.add_hookspecs(HookSpec)
        loaded.add(manager, plugin, "mine", "mine 1.0")
        monkeypatch.setattr(families, "load_families", lambda: loaded)
        return loaded

    return load


def test_a_backbone_of_a_plugin(with_plugin, tmp_path):
    with_plugin(Tiny())
    check_backbone("tiny:a")
    recipe = Recipe().changed({"network.backbone": "tiny:a", "images.short_side": 64})
    made = Detector.untrained(recipe, "none", "cpu")
    assert made.transforms[0].mean == (0.5, 0.5, 0.5)
    made.save(tmp_path / "m.safetensors")
    assert Detector.load(tmp_path / "m.safetensors").model_id == made.model_id
    ran = run_frcnn("plugins", "--json")
    assert [family["name"] for family in ran.json["backbones"]] == ["tiny"]
    assert "Networks of two conv layers." in run_frcnn("plugins").out
    with pytest.raises(UsageError, match="there is no network 'b'"):
        build("tiny:b")
    with pytest.raises(UsageError, match="there are no backbones tinny:...; did you mean|no backbones tinny"):
        build("tinny:a")


def test_plugins_that_cannot_be_used(with_plugin):
    """They are listed with the reason, and nothing else fails."""
    assert "is not a BackboneFamily" in with_plugin(object()).failed["mine"]
    ran = run_frcnn("plugins")
    assert ran.code == 0
    assert "plugin mine failed to load" in ran.err
    assert_one_line_error(run_frcnn("train", "--recipe", "paper", "--set", "network.backbone=foo"), "foo", code=2)


class Broken(Tiny):
    name = "broken"

    def spec(self, network):
        spec = super().spec("a")

        def make(weights):
            made = spec.build(weights)
            if network == "channels":
                made.channels = 9
            elif network == "stride":
                made.stride = 16
            elif network == "hidden":
                made.hidden = new_hidden_layers(5, 16)
            elif network == "random":
                made.conv.append(_Random())
            elif network == "layers":
                made.layers["conv9"] = 9
            elif network == "double":
                made.conv.double()
            return made

        return BackboneSpec(make)


class _Random(torch.nn.Module):
    def forward(self, x):
        return x + torch.rand_like(x)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("channels", "there are 9 channels"),
        ("stride", "stride 16"),
        ("hidden", "reads 5 numbers, but a pooled RoI has 392"),
        ("random", "two calls gave different maps"),
        ("layers", "layer 'conv9' begins at module 9 of 4"),
    ],
)
def test_the_conformance_test_finds_what_is_wrong(with_plugin, network, message):
    with_plugin(Broken())
    with pytest.raises(AssertionError, match=message):
        check_backbone(f"broken:{network}")


@pytest.mark.parametrize("name", ["squeezenet1_0", "resnet18", "alexnet"])
def test_built_in_backbones_conform(name):
    check_backbone(name)
