"""The pipeline on a queue that computes late; and every stage on the double of a GPU, where a tensor on the wrong
device is an error."""

import numpy as np
import pytest
import torch

from frcnn_cli.core.find import image_refs
from frcnn_cli.detector.detector import Detector
from frcnn_cli.inference import pipeline as pipelines
from frcnn_cli.inference.detect import run_detection
from frcnn_cli.inference.embed import embed_boxes
from frcnn_cli.inference.engine import CpuEngine, engine_for
from frcnn_cli.inference.features import extract_features
from frcnn_cli.inference.pipeline import FailedImage, FeaturePipeline, MappedImage
from frcnn_cli.inference.score import score_proposals
from frcnn_cli.proposals.registry import get_source
from frcnn_cli.proposals.run import propose_images
from frcnn_cli.recipes.recipe import Recipe
from frcnn_cli.store.stage import open_stage
from tests.detector.test_model import detector
from tests.gpu_double import fake_gpu
from tests.inference.test_pipeline import pictures
from tests.late_engine import LateEngine

SIZES = [(48, 64), (48, 64), (48, 64), None, (48, 64), (64, 48), (64, 48), None, (48, 64)]


@pytest.mark.parametrize("batch", [None, 1, 2, 10])
@pytest.mark.parametrize("to_cpu", [True, False])
def test_a_queue_that_computes_late(tmp_path, monkeypatch, batch, to_cpu):
    made, engine = detector(), LateEngine()
    monkeypatch.setattr(pipelines, "engine_for", lambda device: engine)
    done = list(FeaturePipeline(made, "float32", batch, to_cpu).run(pictures(tmp_path, SIZES)))
    assert [one.ref.key for one in done] == [str(i) for i in range(len(SIZES))]
    assert [isinstance(one, FailedImage) for one in done] == [size is None for size in SIZES]
    for one in done:
        if isinstance(one, MappedImage):
            expected, _ = made.feature_map(one.image, "float32")
            torch.testing.assert_close(one.features, expected, rtol=1e-4, atol=1e-4)
    assert not engine.waiting
    assert not engine.staged_buffers
    if batch == 1:
        assert engine.log[:3] == ["start", "start", "results"]  # the next one starts before the first is awaited


def test_no_more_than_two_batches_are_in_flight(tmp_path, monkeypatch):
    engine = LateEngine()
    monkeypatch.setattr(pipelines, "engine_for", lambda device: engine)
    assert len(list(FeaturePipeline(detector(), "float32", 1).run(pictures(tmp_path, [(48, 64)] * 9)))) == 9
    assert engine.most_waiting == 2


def test_the_engine_of_a_cpu_is_not_late():
    engine = engine_for(torch.device("cpu"))
    assert isinstance(engine, CpuEngine)
    seen = []
    started = engine.start(
        lambda pixels: (seen.append(pixels.shape) or pixels, torch.ones(2)), [torch.ones(3, 4, 5)] * 2, True
    )
    assert seen == [(2, 3, 4, 5)]
    assert started.results()[0].shape == (2, 3, 4, 5)
    assert engine.seconds > 0


# The double itself: it refuses what CUDA refuses.


@pytest.mark.parametrize(
    "wrong",
    [
        lambda there, here: there + here,
        lambda there, here: torch.cat([there, here]),
        lambda there, here: here[there.long()],
        lambda there, here: torch.nn.functional.linear(there, here),
        lambda there, here: torch.where(there > 0, here, here),
        lambda there, here: here.add_(there),
        lambda there, here: there.numpy(),
        lambda there, here: np.asarray(there),
        lambda there, here: there.pin_memory(),
        lambda there, here: torch.nn.Linear(4, 4)(there),
        lambda there, here: torch.nn.Linear(4, 4).to("cuda")(here),
        lambda there, here: torch.ops.frcnn.roi_max_pool_only(
            [there[None, None]], torch.zeros(1, 5), torch.zeros(1), [1, 1], [1.0]
        ),
    ],
)  # fmt: skip
def test_the_double_refuses_tensors_on_the_wrong_device(wrong):
    with fake_gpu():
        there, here = torch.ones(4, 4).to("cuda"), torch.ones(4, 4)
        with pytest.raises((RuntimeError, TypeError), match="same device|can't convert|cannot pin"):
            wrong(there, here)


def test_the_double_allows_what_a_gpu_allows():
    with fake_gpu() as gpu:
        there = torch.arange(12.0).view(3, 4).to("cuda")
        for result in (
            there + 1, there * torch.tensor(2.0), there[torch.tensor([0, 2])], there.new_zeros(2),
            torch.zeros_like(there), torch.zeros(2, device="cuda"), there.half(), there.view(-1),
            torch.nn.Linear(4, 2).to("cuda")(there),
            there.to("cuda"), torch.ones(2).cuda(), torch.ones(2).to(there),
        ):  # fmt: skip
            assert result.device.type == "cuda"
        for result in (there.cpu(), there.to("cpu"), torch.ones(2), torch.ones(2).copy_(there[0, :2])):
            assert result.device.type == "cpu"
        assert there.cpu().numpy().tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
        layer = torch.nn.Linear(4, 2).to("cuda")
        layer(there).sum().backward()
        assert layer.weight.grad.device.type == "cuda"
        assert there.sum().item() == 66
        assert gpu.moved > 5


# The stages on it.


def late_on_gpu(device):
    return CpuEngine() if device.type == "cpu" else LateEngine(lambda x: x.to("cuda"), lambda x: x.cpu())


@pytest.fixture
def gpu(monkeypatch):
    """The double, and a queue that computes late in place of CUDA's streams."""
    with fake_gpu() as mode:
        monkeypatch.setattr(pipelines, "engine_for", late_on_gpu)
        yield mode


SQUEEZENET = {"network.backbone": "squeezenet1_0", "images.short_side": 96}
RECIPES = {
    "max": SQUEEZENET,
    "align, fine": SQUEEZENET | {"network.pooling": "align", "network.fine": True},
    "pyramid": {"network.backbone": "resnet18", "network.pyramid": True, "network.pooling": "align"}
    | {"images.short_side": 128},
    "scales": SQUEEZENET | {"images.test_short_sides": (64, 96)},
}


@pytest.fixture(scope="module")
def stages(voc, tmp_path_factory):
    folder = tmp_path_factory.mktemp("props")
    propose_images(voc / "JPEGImages", folder / "props.h5", get_source("sliding-window"), workers=0)
    return folder / "props.h5"


def close(one, other):
    with open_stage(one) as a, open_stage(other) as b:
        assert a.images == b.images
        for (_, x), (_, y) in zip(a, b, strict=True):
            assert x.keys() == y.keys()
            for name, array in x.items():
                np.testing.assert_allclose(
                    array.astype(float), y[name].astype(float), rtol=1e-3, atol=1e-3, err_msg=name
                )


@pytest.mark.slow
@pytest.mark.parametrize("which", RECIPES)
def test_features_and_scores_on_the_double_equal_the_cpu(gpu, voc, stages, tmp_path, which):
    made = Detector.untrained(Recipe().changed(RECIPES[which]), "none", "cpu")
    for device in ("cpu", "cuda"):
        if device == "cuda":
            made.to("cuda")
        extract_features(voc / "JPEGImages", made, tmp_path / f"{device}-f.h5", dtype="float32")
        score_proposals(tmp_path / f"{device}-f.h5", stages, made, tmp_path / f"{device}-s.h5")
    assert made.device.type == "cuda"
    assert gpu.moved > 0
    close(tmp_path / "cpu-f.h5", tmp_path / "cuda-f.h5")
    close(tmp_path / "cpu-s.h5", tmp_path / "cuda-s.h5")


@pytest.mark.slow
@pytest.mark.parametrize("which", RECIPES)
def test_detections_and_vectors_on_the_double(gpu, voc, stages, tmp_path, which):
    made = Detector.untrained(Recipe().changed(RECIPES[which]), "none", "cpu").to("cuda")
    run = run_detection(
        image_refs(voc / "JPEGImages"), made, source=get_source("sliding-window"),
        thresholds=made.thresholds.changed(min_score=0.0),
    )  # fmt: skip
    assert not run.failed
    assert sum(map(len, run.detections.values())) > 0
    done = embed_boxes(voc / "JPEGImages", made, tmp_path / "v.h5", boxes=stages, layer="mean")
    assert done.rows > 0


def test_a_model_is_loaded_saved_and_compressed_on_the_double(gpu, tmp_path):
    made = Detector.untrained(Recipe().changed(RECIPES["max"]), "none", "cpu")
    made.save(tmp_path / "m.safetensors")
    there = Detector.load(tmp_path / "m.safetensors", "auto")
    assert there.device.type == "cuda"
    assert there.model_id == made.model_id
    there.save(tmp_path / "again.safetensors")
    assert Detector.load(tmp_path / "again.safetensors", "cpu").model_id == made.model_id
    assert there.to_precision("bfloat16").features(torch.zeros(1, 3, 64, 64).to("cuda")).device.type == "cuda"


def test_the_network_refuses_an_image_that_was_left_on_the_cpu(gpu):
    made = Detector.untrained(Recipe().changed(RECIPES["max"]), "none", "cpu").to("cuda")
    with pytest.raises(RuntimeError, match="same device"):
        made.features(torch.zeros(1, 3, 64, 64))
