"""Worker processes: they do not run the user's script, report errors in one line, and leave Ctrl-C to the command."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import assert_one_line_error, run_frcnn

SMALL = ("--backbone", "small", "--weights", "none", "--short-side", "0", "--background-iou", "0", "0.5")

SCRIPT = """
print("the script runs", flush=True)
from frcnn_cli import load_dataset, propose_images, train
data = "voc:{voc}"
propose_images(load_dataset(data, "test"), "props-test.h5", "sliding-window", workers=2)
propose_images(load_dataset(data, "trainval"), "props.h5", "sliding-window", workers=2)
small = {{"network.backbone": "small", "images.short_side": 0, "solver.epochs": 1, "sampling.rois": 16}}
print(train(data, "props.h5", "run", changes=small, weights="none", workers=2).classes, flush=True)
"""


@pytest.fixture
def props(voc, tmp_path):
    line = ("proposals", f"voc:{voc}", "--split", "trainval", "-o", tmp_path / "props.h5", "--source", "sliding-window")
    assert run_frcnn(*line, "--workers", 0).code == 0
    return tmp_path / "props.h5"


def test_a_script_without_a_main_guard_runs_once(voc, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT.format(voc=voc))
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["the script runs", "('disc', 'square', 'star', 'triangle')"]


def test_an_image_that_cannot_be_read_is_one_line(voc, props, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(voc, folder)
    from frcnn_cli.core.errors import ImageError
    from frcnn_cli.recipes.recipe import Recipe
    from frcnn_cli.training.batches import Batches
    from frcnn_cli.training.roi_targets import TargetStatistics
    from frcnn_cli.training.settings import RunSettings
    from frcnn_cli.training.training_set import read_training_set

    recipe = Recipe().changed({"images.short_side": 0})
    data = read_training_set(RunSettings(data=f"voc:{folder}", props=str(props)), recipe)
    batches = Batches(data.samples, recipe, TargetStatistics(0.0, 1.0), data.inputs)
    for path in (folder / "JPEGImages").iterdir():
        path.write_bytes(path.read_bytes()[:300])
    for workers in (0, 1):
        with pytest.raises(ImageError, match="is truncated") as caught:
            list(batches.iterate(0, 2, workers))
        assert caught.value.fix == "Get the file again, or remove it"


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 2.0, 5.0])
def test_ctrl_c_while_the_workers_start(voc, props, tmp_path, delay):
    """A terminal sends Ctrl-C to all processes of the group."""
    line = ("train", "--data", f"voc:{voc}", "--props", props, "-o", tmp_path / "run", *SMALL, "--epochs", "400")
    process = subprocess.Popen(
        [sys.executable, "-m", "frcnn_cli", *map(str, line), "--workers", "2"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    for text in process.stderr:
        if "training on" in text:
            break
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=600)
    # Python ends by the signal itself if it came during the import of a module that calls exec; a shell shows 130, too.
    assert process.returncode in (130, -signal.SIGINT), err
    assert "internal error" not in err
    if "stopped at iteration" in err:
        assert run_frcnn("inspect", tmp_path / "run").code == 0


def test_the_split_of_a_run_is_recorded_and_is_not_the_test_split(voc, tmp_path):
    """Proposals of all images cover trainval and test; the run is trained on trainval."""
    line = ("proposals", voc / "JPEGImages", "-o", tmp_path / "all.h5", "--source", "sliding-window", "--workers", 0)
    assert run_frcnn(*line).code == 0
    common = ("--data", f"voc:{voc}", "--props", tmp_path / "all.h5", "-o", tmp_path / "run", *SMALL, "--epochs", "1")
    ran = run_frcnn("train", *common)
    assert ran.code == 0, ran.err
    assert "trainval: 10 images" in ran.err
    assert run_frcnn("inspect", tmp_path / "run", "--json").json["data"]["split"] == "trainval"
    assert run_frcnn("train", *common, "--split", "trainval", "--resume").code == 0
    again = run_frcnn("train", *common, "--split", "test", "--resume")
    assert_one_line_error(again, "--split test differs from the run's own trainval", code=2)


def test_several_covered_splits_must_be_chosen_from(tmp_path):
    from frcnn_cli.core.errors import DataError
    from frcnn_cli.core.image import ImageRecord
    from frcnn_cli.data.load import default_split

    lists = tmp_path / "ImageSets/Main"
    lists.mkdir(parents=True)
    (tmp_path / "Annotations").mkdir()
    for split, keys in {"train": "ab", "val": "c", "test": "de"}.items():
        (lists / f"{split}.txt").write_text("".join(f"{key}\n" for key in keys))

    def chosen(keys):
        return default_split(f"voc:{tmp_path}", [ImageRecord(key, 1, 1, "") for key in keys])

    assert (chosen("ab"), chosen("de"), chosen("cx")) == ("train", "test", "val")
    with pytest.raises(DataError, match="covers several splits.*train, val"):
        chosen("abc")
    (lists / "trainval.txt").write_text("a\nb\nc\n")
    assert chosen("abc") == chosen("abcde") == "trainval"
    assert chosen("de") == "test"
