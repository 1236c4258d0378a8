"""Every example runs."""

import subprocess
import sys
from dataclasses import replace

import pytest
from PIL import Image as Pillow

from frcnn_cli.data.load import load_dataset
from frcnn_cli.detector.detector import Detector
from frcnn_cli.features.backbones import build_network
from tests.conftest import ROOT
from tests.detector.test_model import detector, picture


def test_library(tmp_path):
    detector().save(tmp_path / "model.safetensors")
    Pillow.fromarray(picture().pixels).save(tmp_path / "a.png")
    line = [sys.executable, str(ROOT / "examples/library.py"), str(tmp_path), str(tmp_path / "a.png")]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "proposals, a map of" in done.stdout


def test_bccd_script_names_its_usage():
    """Its hour of training is not for a test; its commands are those of `tests/cli/test_chain.py`."""
    done = subprocess.run(["bash", str(ROOT / "examples/bccd.sh")], capture_output=True, text=True)
    assert done.returncode != 0
    assert "usage: examples/bccd.sh DATA [WORK]" in done.stderr
    assert subprocess.run(["bash", "-n", str(ROOT / "examples/bccd.sh")]).returncode == 0


@pytest.mark.slow
def test_ablations(tmp_path, voc):
    line = [sys.executable, str(ROOT / "examples/ablations.py"), f"voc:{voc}", str(tmp_path), "--studies", "losses,svm"]
    changes = ("network.backbone=small", "images.short_side=0", "solver.epochs=1", "sampling.rois=32")
    line += ["--weights", "none", *(word for change in changes for word in ("--set", change))]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    tables = [row.split(" | ") for row in done.stdout.splitlines() if row.startswith("| ")]
    assert tables[0][1:] == [
        "classification loss only",
        "multi-task, no box regression at test",
        "stage-wise",
        "multi-task |",
    ]
    assert [len(row) for row in tables] == [5, 5, 3, 3]
    again = subprocess.run(line, capture_output=True, text=True)
    assert again.stdout == done.stdout
    assert "training:" not in again.stderr
    wrong = ([*line[:4], "--studies", "nope"], [*line, "--epohcs", "3"], [*line, "--set", "loss.beta=2"])
    for words in wrong:
        refused = subprocess.run(words, capture_output=True, text=True)
        assert refused.returncode == 2
        assert "Traceback" not in refused.stderr
    assert "loss.beta 2.0 differs from the run's own 1.0" in refused.stderr


def test_any_boxes(tmp_path, voc):
    """Every installed source, with a model that has no region proposal network."""
    classes = load_dataset(f"voc:{voc}").classes
    made = detector()
    made.config = replace(made.config, classes=classes)
    Detector(made.config, build_network(made.config.network)).save(tmp_path / "model.safetensors")
    line = [
        sys.executable,
        str(ROOT / "examples/any_boxes.py"),
        f"voc:{voc}",
        "--model",
        str(tmp_path),
        "--images",
        "2",
    ]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path} on 2 images of" in done.stdout
    rows = [row.split(" | ")[0] for row in done.stdout.splitlines() if row.startswith("| ")]
    assert rows[1:] == [
        "| selective search, fast",
        "| selective search, quality",
        "| edge boxes",
        "| sliding windows",
        "| selective search, fast + edge boxes",
    ]
