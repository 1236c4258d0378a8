"""A trained detector detects: on synthetic images it reaches a mAP that an untrained one cannot."""

import pytest

from frcnn_cli.data.load import load_dataset
from frcnn_cli.data.synthetic import make_dataset
from frcnn_cli.evaluation.voc import evaluate
from frcnn_cli.inference.detect import detect_images
from frcnn_cli.proposals.registry import get_source
from frcnn_cli.proposals.run import propose_images
from frcnn_cli.training.train import train

VALUES = {
    "network.backbone": "small",
    "images.short_side": 0,
    "sampling.rois": 64,
    "sampling.background_iou": (0.0, 0.5),
    "solver.epochs": 12.0,
    "solver.learning_rate": 0.01,
}


@pytest.mark.slow
def test_a_trained_detector_detects(tmp_path):
    """0.43 here; 0.06 with a head that learned nothing."""
    make_dataset(tmp_path / "data", train=60, test=20, seed=11, size=(110, 90))
    data = f"voc:{tmp_path / 'data'}"
    proposals, test = tmp_path / "p.h5", load_dataset(data, "test")
    propose_images(load_dataset(data, "trainval"), proposals, get_source("selective-search"), workers=0)

    def mean_ap(name, **solver):
        changes = VALUES | {f"solver.{key}": value for key, value in solver.items()}
        run = tmp_path / name
        made = train(data, proposals, run, changes=changes, split="trainval", weights="none", device="cpu")
        return evaluate(detect_images(test, made), test).mean_ap

    assert mean_ap("untrained", epochs=0.05, learning_rate=1e-9) < 0.12
    assert mean_ap("trained") > 0.25
