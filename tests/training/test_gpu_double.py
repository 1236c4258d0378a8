"""Training and validation on the double of a GPU: every tensor is on the device where it is used, and the weights equal
those of the CPU."""

import numpy as np
import pytest
import torch

from frcnn_cli.inference import pipeline
from frcnn_cli.proposals.registry import get_source
from frcnn_cli.proposals.run import propose_images
from frcnn_cli.training.train import train
from tests.gpu_double import fake_gpu
from tests.inference.test_engine import RECIPES, late_on_gpu

QUICK = {
    "solver.iterations": 4, "sampling.rois": 24, "sampling.background_iou": (0.0, 0.5), "solver.learning_rate": 1e-4,
    "sampling.images": 2,
}  # fmt: skip
KINDS = {
    "paper": RECIPES["max"],
    "modern": RECIPES["align, fine"] | {"solver.ema_decay": 0.9, "solver.clip_norm": 1.0, "images.colour_jitter": 0.2},
    "pyramid": RECIPES["pyramid"],
    "two stages": RECIPES["max"] | {"solver.stages": "sequential"},
    "svm": RECIPES["max"] | {"network.classifier": "svm"},
}  # fmt: skip


@pytest.fixture(scope="module")
def props(voc, tmp_path_factory):
    path = tmp_path_factory.mktemp("props") / "props.h5"
    propose_images(voc / "JPEGImages", path, get_source("sliding-window"), workers=0)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_training_on_the_double_equals_the_cpu(voc, props, tmp_path, kind, monkeypatch):
    changes = QUICK | KINDS[kind]
    line = {"changes": changes, "weights": "none", "split": "trainval", "validate_on": "test"}
    here = train(f"voc:{voc}", props, tmp_path / "cpu", device="cpu", **line)
    monkeypatch.setattr(pipeline, "engine_for", late_on_gpu)
    with fake_gpu() as gpu:
        there = train(f"voc:{voc}", props, tmp_path / "gpu", device="cuda", **line)
        assert there.device.type == "cuda"
        assert gpu.moved > 0
        weights = {name: value.cpu().numpy() for name, value in there.state_dict().items()}
        resumed = train(f"voc:{voc}", props, tmp_path / "gpu", device="cuda", resume=True, **line)
        assert resumed.device.type == "cuda"
    for name, value in here.state_dict().items():
        np.testing.assert_allclose(weights[name], value.numpy(), rtol=1e-3, atol=1e-4, err_msg=name)
    assert torch.isfinite(torch.cat([value.flatten() for value in here.state_dict().values()])).all()
