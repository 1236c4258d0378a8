"""A model's file: whole, safe, and refused by name where it is not."""

import json
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from frcnn_cli.core.errors import FileFormatError, FrcnnError, SourceError, UsageError
from frcnn_cli.core.image import Image
from frcnn_cli.detector.compression import Compressor
from frcnn_cli.detector.detector import Detector, ModelConfig
from frcnn_cli.features.backbones import build
from frcnn_cli.features.transform import ImageTransform
from frcnn_cli.recipes.sections import Network
from frcnn_cli.system.device import choose_device

PROPOSALS = {
    "source": {"name": "opencv-selective-search", "version": "1", "options": {"mode": "fast"}},
    "max_boxes": 50,
    "min_size": 8.0,
}


def detector(classes=("a", "b"), proposals=PROPOSALS):
    torch.manual_seed(0)
    return Detector(ModelConfig(Network("small"), classes, ImageTransform(64, 96), proposals), build("small")).eval()


def picture(seed=0):
    return Image.from_array(np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8))


def test_saved_and_loaded_detects_the_same(tmp_path):
    made = detector()
    made.save(tmp_path / "model.safetensors")
    loaded = Detector.load(tmp_path)
    assert loaded.config == made.config
    assert loaded.model_id == made.model_id
    for name, value in made.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name])
    loaded.save(tmp_path / "again.safetensors")
    one, other = loaded.detect(picture()), Detector.load(tmp_path / "again.safetensors").detect(picture())
    assert len(one) > 0
    np.testing.assert_array_equal(one.boxes, other.boxes)
    np.testing.assert_array_equal(one.scores, other.scores)


def test_it_proposes_as_it_was_trained():
    made = detector()
    assert made.source().mode == "fast"
    assert made.limits == (50, 8.0)
    older = PROPOSALS | {"source": PROPOSALS["source"] | {"version": "0"}}
    with pytest.raises(SourceError, match="made with opencv-selective-search 0, but 1 is installed"):
        detector(proposals=older).source()


def test_maps_depend_on_the_conv_layers_alone():
    made, other = detector(), detector(classes=("c",))
    assert made.features_id == other.features_id
    assert made.model_id != other.model_id
    with torch.no_grad():
        other.conv[0].weight[0, 0, 0, 0] += 1
    assert made.features_id != other.features_id


def test_a_map_that_overflows_is_said(tmp_path):
    made = detector()
    with torch.no_grad():
        made.conv[8].weight *= 1e6
    with pytest.raises(FrcnnError, match="overflows float16.*--dtype float32"):
        made.feature_map(picture())
    made.feature_map(picture(), "float32")


def saved(tmp_path, change=None, description=None):
    path = tmp_path / "model.safetensors"
    detector().save(path)
    tensors = load_file(path)
    described = {"version": 2, "config": detector().config.to_json()}
    if change:
        change(tensors)
    if description:
        description(described)
    save_file(tensors, path, {"frcnn_model": json.dumps(described)})
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("head.fc6.bias"), r"lacks the tensor 'head\.fc6\.bias'"),
        (lambda t: t.update({"head.fc6.bias": torch.zeros(3)}), r"head\.fc6\.bias is torch\.float32 \[3\]"),
        (lambda t: t.update({"conv.0.bias": torch.zeros(16, dtype=torch.float64)}), "float64"),
        (lambda t: t.update({"extra": torch.zeros(3)}), "unknown tensor 'extra'"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path, change, words):
    with pytest.raises(FileFormatError, match=words):
        Detector.load(saved(tmp_path, change))


@pytest.mark.parametrize(
    ("description", "words"),
    [
        (lambda d: d.update(version=5), "newer frcnn"),
        (lambda d: d.update(version=0), "version 0"),
        (lambda d: (d.update(version=1), d["config"].update(ranks={"fc6": 4})), "version 1"),
        (lambda d: d["config"].update(ranks={"fc6": float("inf")}), "damaged description"),
        (
            lambda d: d["config"]["network"].update(backbone="resnet9000"),
            "network.backbone is 'resnet9000', which is unknown",
        ),
        (lambda d: d["config"].pop("classes"), "damaged description"),
        (lambda d: d.update(version="abc"), "damaged description"),
        (lambda d: d["config"].update(proposals={}), "damaged description"),
        (lambda d: d["config"]["transform"].update(short_side="x"), "short_side is 'x'"),
        (lambda d: d["config"]["transform"].update(short_side=10**7), "short_side is 10000000"),
        (lambda d: d["config"].update(classes=[]), "no classes"),
        (lambda d: d["config"].update(classes=["a"]), "cls_score"),
        (lambda d: d["config"]["transform"].update(mean=[1]), "mean has 1 values"),
        (lambda d: d["config"]["transform"].update(surprise=1), "damaged description"),
    ],
)
def test_descriptions_that_do_not_fit_are_said(tmp_path, description, words):
    with pytest.raises(FileFormatError, match=words):
        Detector.load(saved(tmp_path, None, description))


def test_files_that_are_no_models(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(FileFormatError, match="not a file of frcnn"):
        Detector.load(path)
    for content in (b"", b"nonsense", b"\xff" * 100):
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match="not a model file, or is damaged"):
            Detector.load(path)
    with pytest.raises(FrcnnError, match="no such file"):
        Detector.load(tmp_path / "none.safetensors")
    with pytest.raises(FrcnnError, match="holds no model"):
        Detector.load(tmp_path)


def test_devices():
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type in ("cpu", "cuda")
    with pytest.raises(FrcnnError, match="not a device"):
        choose_device("toaster")
    with pytest.raises(FrcnnError, match="not a device that frcnn runs on"):
        choose_device("meta")
    with pytest.raises(FrcnnError, match="there is no GPU 'cuda:99'"):
        choose_device("cuda:99")


def test_models_of_version_1_read_rois_in_the_other_order(tmp_path):
    made = detector()
    made.save(tmp_path / "new.safetensors")

    def older(tensors):
        weight = tensors["head.fc6.weight"]  # [256, 7*7*64]
        tensors["head.fc6.weight"] = weight.view(256, 49, 64).transpose(1, 2).reshape(256, -1).contiguous()

    loaded = Detector.load(saved(tmp_path, older, lambda d: (d.update(version=1), d["config"].pop("ranks"))))
    assert loaded.model_id == made.model_id


@pytest.mark.parametrize(
    ("ranks", "words"),
    [({"fc8": 3}, "damaged description"), ({"fc6": 0}, "damaged description"), ({"fc6": 9}, "lacks the tensor")],
)
def test_ranks_that_do_not_fit_are_said(tmp_path, ranks, words):
    with pytest.raises(FileFormatError, match=words):
        Detector.load(saved(tmp_path, None, lambda d: d["config"].update(ranks=ranks)))


def test_lower_precision_is_near_and_has_the_same_identity(tmp_path):
    detector().save(tmp_path / "model.safetensors")
    full, low = Detector.load(tmp_path), Detector.load(tmp_path, precision="bfloat16")
    assert (full.model_id, full.features_id) == (low.model_id, low.features_id)
    boxes = np.array([[2, 2, 30, 30], [10, 5, 60, 40], [20, 20, 40, 44]], np.float32)
    results = []
    for made in (full, low):
        features, scale = made.feature_map(picture())
        results.append(made.score(features, boxes, scale, 48, 64))
    np.testing.assert_allclose(results[1].probabilities, results[0].probabilities, atol=0.01)
    np.testing.assert_allclose(results[1].boxes, results[0].boxes, atol=0.5)
    assert not np.array_equal(results[1].probabilities, results[0].probabilities)
    with pytest.raises(FrcnnError, match="rounded to another precision"):
        low.save(tmp_path / "low.safetensors")
    with pytest.raises(UsageError, match="rounded to another precision"):
        Compressor(low)
    with pytest.raises(FrcnnError, match="float16 is supported on GPUs only"):
        Detector.load(tmp_path, precision="float16")


@pytest.mark.parametrize("geometry", [None, 1])
def test_models_of_another_padding_are_refused(geometry):
    """caffenet was padded otherwise in frcnn 0.2; its models would give other maps today."""
    config = ModelConfig(Network("caffenet"), ("a",), ImageTransform(64, 96), PROPOSALS)
    values = config.to_json()
    assert ModelConfig.from_json(values).network == config.network
    values.pop("geometry")
    if geometry is not None:
        values["geometry"] = geometry
    with pytest.raises(FileFormatError, match="older caffenet, whose padding differs.*Train it again"):
        ModelConfig.from_json(values)
    ModelConfig.from_json(detector().config.to_json() | {"geometry": 1})


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, number):
    made = detector()
    made.save(tmp_path / "model.safetensors")
    Detector.load(tmp_path)
    with torch.no_grad():
        made.head.bbox_pred.bias[3] = number
    made.save(tmp_path / "model.safetensors")
    with pytest.raises(FileFormatError, match=r"head\.bbox_pred\.bias holds numbers that are not finite"):
        Detector.load(tmp_path)


def test_bfloat16_without_instructions_for_it_is_warned_of(monkeypatch):
    from frcnn_cli.core.errors import FrcnnWarning

    monkeypatch.setattr("frcnn_cli.system.facts._processor", lambda: ("old", {"avx2", "fma"}))
    with pytest.warns(FrcnnWarning, match="no instructions for bfloat16"):
        detector().to_precision("bfloat16")
    for flags in ({"avx2", "avx512_bf16"}, set()):
        monkeypatch.setattr("frcnn_cli.system.facts._processor", lambda flags=flags: ("new", flags))
        with warnings.catch_warnings():
            warnings.simplefilter("error", FrcnnWarning)
            detector().to_precision("bfloat16")
