"""Feature pyramids as backbones: their maps, in files, in training, and in detection."""

import copy

import numpy as np
import pytest
import torch

from frcnn_cli.core.errors import UsageError
from frcnn_cli.core.image import Image
from frcnn_cli.detector.detector import Detector
from frcnn_cli.features.backbones import BACKBONES, build
from frcnn_cli.features.columns import from_columns, to_columns
from frcnn_cli.recipes.recipe import Recipe
from frcnn_cli.store.reader import StageFile
from tests.conftest import assert_one_line_error, run_frcnn
from tests.detector.seeded import picture
from tests.features.test_features import _averaging

NAMES = [name for name, spec in BACKBONES.items() if spec.build_pyramid]
STRIDES = {"resnet18": (4, 8, 16, 32), "resnet50": (4, 8, 16, 32), "mobilenet_v3_large": (32, 32)}
PYRAMID = {"network.backbone": "resnet18", "network.pyramid": True, "images.short_side": 96}


@pytest.mark.parametrize("name", NAMES)
def test_levels(name):
    """One map per stride, all of 256 channels, also for sides that are no multiples of the strides."""
    backbone = build(name, pyramid=True)
    assert backbone.strides == STRIDES[name]
    with torch.inference_mode():
        maps = backbone.conv.eval()(torch.zeros(1, 3, 203, 150))
    assert len(maps) == len(backbone.strides)
    for one, stride in zip(maps, backbone.strides, strict=True):
        assert one.shape[:2] == (1, 256)
        for have, size in zip(one.shape[2:], (203, 150), strict=True):
            assert abs(have - size / stride) <= 1.5


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_centres_of_cells_of_every_level(name):
    """As for single maps, by the centre of mass of the gradient, through the layers before the pyramid."""
    backbone = build(name, pyramid=True)
    stages = list(backbone.conv.bottom_up())
    for layers, stride, offset in zip(stages, backbone.strides, backbone.cell_offsets, strict=True):
        size = 31 * stride
        image = torch.ones(1, 3, size, size, requires_grad=True)
        features = _averaging(copy.deepcopy(layers))(image)
        at = features.shape[2] // 2
        features[0, :, at, at].sum().backward()
        along = image.grad[0].sum(0).double().sum(0)
        centre = ((torch.arange(size) + 0.5) * along).sum() / along.sum()
        assert centre.item() == pytest.approx((at + 0.5) * stride + offset, abs=0.1)


def test_backbones_without_a_pyramid():
    with pytest.raises(UsageError, match="vgg16 has no feature pyramid"):
        build("vgg16", pyramid=True)
    with pytest.raises(UsageError, match=r"network.fine=true cannot be used with network.pyramid=true"):
        Recipe().changed({"network.fine": True, "network.pyramid": True})


@pytest.mark.parametrize("scale", [1.25, (1.25, 1.5), [1.0, 2.0], [(1.0, 1.1), (2.0, 2.1)]])
@pytest.mark.parametrize("levels", [1, 3])
def test_maps_to_columns_and_back(scale, levels):
    """Every combination of a pyramid, several scales, and scales that differ along x and y."""
    generator = torch.Generator().manual_seed(0)

    def view(size):
        maps = tuple(torch.rand(1, 4, size >> i, (size >> i) + 1, generator=generator) for i in range(levels))
        return maps if levels > 1 else maps[0]

    maps = [view(12), view(20)] if isinstance(scale, list) else view(12)
    again, scales = from_columns(to_columns(maps, scale))
    assert scales == scale

    def flat(one):
        return [one] if isinstance(one, torch.Tensor) else [each for part in one for each in flat(part)]

    assert type(again) is type(maps)
    assert all(torch.equal(a, b) for a, b in zip(flat(again), flat(maps), strict=True))
    assert len(flat(again)) == len(flat(maps))


def test_columns_that_do_not_belong_together():
    columns = to_columns((torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 2, 2)), 1.0)
    with pytest.raises(ValueError, match="2 maps do not belong to 3 scales"):
        from_columns(columns | {"scale": np.ones(3)})
    with pytest.raises(ValueError, match="20 cells do not make a map of 4 x 4 and 2 x 3"):
        from_columns(columns | {"map_size": np.array([[4, 4], [2, 3]], np.int32)})


@pytest.mark.parametrize("pooling", ["max", "align", "align_v1"])
def test_detection_by_stages_is_detection(pooling, tmp_path):
    """From maps that were rounded, written and read."""
    made = Detector.untrained(
        Recipe().changed({**PYRAMID, "images.short_side": 192, "network.pooling": pooling}), "none", "cpu"
    )
    image = Image.from_array(picture(1), "a")
    boxes = np.array([[10, 10, 60, 60], [0, 0, 320, 240], [100, 50, 105, 90]], np.float32)
    maps, scale = made.feature_map(image)
    again = from_columns(to_columns(maps, scale))
    found = made.score(*again[:1], boxes, again[1], image.height, image.width)
    expected = made.score(maps, boxes, scale, image.height, image.width)
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)
    assert set(made.head.pooler.windows(_rois(boxes, scale)).level.tolist()) == {0, 1}


def _rois(boxes, scale):
    from frcnn_cli.roi.rois import RoIs

    return RoIs.of_images([boxes], [scale])


@pytest.mark.parametrize("head", ["mlp", "conv"])
def test_other_heads(head, tmp_path):
    made = Detector.untrained(Recipe().changed({**PYRAMID, "network.head": head}), "none", "cpu")
    assert made.head.cls_score.in_features == 1024
    made.save(tmp_path / "m.safetensors")
    again = Detector.load(tmp_path / "m.safetensors", "cpu")
    assert again.model_id == made.model_id
    image = Image.from_array(picture(1), "a")
    boxes = np.array([[10, 10, 60, 60]], np.float32)
    found, expected = again.detect(image, boxes), made.detect(image, boxes)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)  # the memory order of conv weights may differ
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-2)
    assert len(made.detect(image, boxes[:0]).labels) == 0


@pytest.fixture(scope="module")
def props(tmp_path_factory, voc):
    path = tmp_path_factory.mktemp("props") / "props.h5"
    assert run_frcnn("proposals", f"voc:{voc}", "-o", path, "--source", "sliding-window", "--workers", 0).code == 0
    return path


@pytest.mark.slow
def test_training_learns_and_trains_every_level(voc, props, tmp_path):
    """End to end, with images of several sizes in a mini-batch, and a kill-free resume of the finished run."""
    settings = ("network.pyramid=true", "network.backbone=resnet18", "images.short_side=96")
    line = ["train", "--data", f"voc:{voc}", "--props", props, "-o", tmp_path / "run", "--weights", "none"]
    line += ["--epochs", 6, "--lr", "0.02", "--json"]
    ran = run_frcnn(*line, *(part for setting in settings for part in ("--set", setting)))
    assert ran.code == 0, ran.err
    assert ran.json["loss"] < 1.3
    made = Detector.load(tmp_path / "run", "cpu")
    before = build("resnet18", pyramid=True)
    assert made.conv[-1].layer_blocks[3][0].weight.shape == before.conv[-1].layer_blocks[3][0].weight.shape
    ran = run_frcnn("inspect", tmp_path / "run")
    assert ran.code == 0, ran.err
    assert "stride 4, 8, 16, 32" in ran.out + ran.err


def test_training_the_head_from_cached_pyramids(voc, props, tmp_path):
    """Maps of all levels, of images and of mirrored images, in a file."""
    recipe = Recipe().changed(PYRAMID)
    Detector.untrained(recipe, "none", "cpu").save(tmp_path / "m.safetensors")
    model, feats = tmp_path / "m.safetensors", tmp_path / "feats.h5"
    ran = run_frcnn("features", f"voc:{voc}", "--model", model, "--mirrored", "-o", feats)
    assert ran.code == 0, ran.err
    with StageFile(feats) as file:
        assert file[0]["map_size"].shape == (4, 2)
    line = ("train", "--data", f"voc:{voc}", "--props", props, "-o", tmp_path / "run", "--init", model)
    more = ("--features", feats, "--recipe", "paper", "--epochs", 2, "--lr", "0.001", "--json")
    ran = run_frcnn(*line, *more)
    assert ran.code == 0, ran.err
    made, before = Detector.load(tmp_path / "run", "cpu"), Detector.load(model, "cpu")
    assert made.features_id == before.features_id, "the conv layers are not trained"
    assert not torch.equal(made.head.fc6.weight, before.head.fc6.weight)
    other = Detector.untrained(recipe.changed({"images.long_side": 300}), "none", "cpu")
    other.save(tmp_path / "other.safetensors")
    wrong = (*line[:-2], "--init", tmp_path / "other.safetensors", *more, "--force")
    assert_one_line_error(run_frcnn(*wrong), "were made with long side 1000, not 300")
