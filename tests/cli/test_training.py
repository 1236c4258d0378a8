"""frcnn train as a whole: validation, patience, curves, a kill, and the recipe that everything was made with."""

import json
import shutil
import signal
import subprocess
import sys

import pytest
from safetensors.torch import load_file

from frcnn_cli.recipes.recipe import Recipe
from frcnn_cli.store.reader import StageFile
from frcnn_cli.training.watch import Watch
from tests.conftest import assert_one_line_error, run_frcnn, wait_for

SMALL = ("--backbone", "small", "--weights", "none", "--short-side", "0", "--background-iou", "0", "0.5")


@pytest.fixture(scope="module")
def props(tmp_path_factory, voc):
    folder = tmp_path_factory.mktemp("props")
    for split in ("trainval", "test"):
        line = ("proposals", f"voc:{voc}", "--split", split, "-o", folder / f"{split}.h5", "--source", "sliding-window")
        assert run_frcnn(*line, "--workers", 0).code == 0
    return folder


@pytest.fixture
def line(props, voc, tmp_path):
    return ("train", "--data", f"voc:{voc}", "--props", props / "trainval.h5", "-o", tmp_path / "run", *SMALL)


def no_better(props, epochs, patience):
    """At a rate of almost nothing no validation is better than the first."""
    validated = ("--validate-on", "test", "--val-props", props / "test.h5", "--patience", patience)
    return ("--epochs", epochs, "--lr", "1e-9", *validated)


def log(folder):
    return [json.loads(text) for text in (folder / "log.jsonl").read_text().splitlines()]


def test_validation_while_training(line, props, tmp_path):
    more = ("--epochs", "4", "--lr", "0.02", "--validate-on", "test", "--val-props", props / "test.h5", "--json")
    ran = run_frcnn(*line, *more)
    assert ran.code == 0, ran.err
    told = ran.json["validation"]
    assert [entry["iteration"] for entry in told] == [5, 10, 15, 20]
    assert ran.json["best"] == max(told, key=lambda entry: entry["map"])
    assert (ran.json["iterations"], ran.json["of"]) == (20, 20)
    values = [entry["validation_map"] for entry in log(tmp_path / "run") if "validation_map" in entry]
    assert values == [entry["map"] for entry in told]
    assert "epoch 4.00: validation mAP" in ran.err
    assert (tmp_path / "run/best.safetensors").is_file()
    resumed = run_frcnn("train", "--resume", "-o", tmp_path / "run")
    assert "is finished" in resumed.err


def test_patience_ends_a_run_that_gets_no_better(line, props, tmp_path):
    more = no_better(props, "9", patience="2")
    ran = run_frcnn(*line, *more)
    assert ran.code == 0, ran.err
    assert "no improvement in 2 validation(s)" in ran.err
    assert log(tmp_path / "run")[-1]["iteration"] == 15
    assert run_frcnn(*line, "--patience", "2", "--force").code == 2


def test_proposals_of_other_images_to_validate_on(line):
    assert_one_line_error(run_frcnn(*line, "--validate-on", "test"), "holds none of the 6 images")


def test_validating_on_what_is_trained_on_is_refused(line, props, voc):
    ran = run_frcnn(*line, "--validate-on", "trainval")
    assert_one_line_error(ran, "is also trained on")
    pinned = [f"{word}@trainval" if str(word).startswith("voc:") else word for word in line]
    assert_one_line_error(run_frcnn(*pinned, "--validate-on", "test", "--force"), "no other splits", "--val-data")
    ran = run_frcnn(*line, "--validate-on", "x", "--val-data", f"voc:{voc}@trainval", "--force")
    assert_one_line_error(ran, "is also trained on")


def test_patience_is_for_one_stage(line, props):
    more = ("--validate-on", "test", "--val-props", props / "test.h5", "--patience", "1")
    assert run_frcnn(*line, *more, "--set", "network.classifier=svm").code == 2
    assert run_frcnn(*line, *more, "--set", "solver.stages=sequential").code == 2


def test_a_resumed_run_goes_on_validating(line, props, tmp_path, monkeypatch):
    more = no_better(props, "6", patience="3")
    after = Watch.after

    def stopped(watch, step):
        found = after(watch, step)
        if step.iteration == 5:
            signal.raise_signal(signal.SIGINT)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(Watch, "after", stopped)
        assert run_frcnn(*line, *more).code == 130
    ran = run_frcnn("train", "--resume", "-o", tmp_path / "run")
    assert "no improvement in 3 validation(s)" in ran.err
    assert log(tmp_path / "run")[-1]["iteration"] == 20
    shown = run_frcnn("train", "--resume", "-o", tmp_path / "run", "--show-config")
    assert "epochs = 6.0" in shown.out


def test_a_backbone_that_there_is_not(line):
    assert_one_line_error(
        run_frcnn(*line, "--set", "network.backbone=nope"), "network.backbone is 'nope'", "vgg16", code=2
    )


def test_a_dead_head_is_said(line, monkeypatch):
    monkeypatch.setattr("frcnn_cli.training.watch.COLLAPSED_FOR", 3)
    # Hidden units that start far below 0 never wake.
    import torch

    from frcnn_cli.roi.head import FullyConnectedHead

    before = FullyConnectedHead.__init__

    def dead(self, *arguments, **named):
        before(self, *arguments, **named)
        torch.nn.init.constant_(self.fc7.bias, -1e6)

    monkeypatch.setattr(FullyConnectedHead, "__init__", dead)
    ran = run_frcnn(*line, "--epochs", "2")
    assert "the head has collapsed" in ran.err


def test_svms_in_place_of_the_softmax(line, props, voc, tmp_path):
    ran = run_frcnn(*line, "--set", "network.classifier=svm", "--epochs", "2")
    assert ran.code == 0, ran.err
    told = run_frcnn("inspect", tmp_path / "run", "--json").json
    assert told["recipe"]["network"]["classifier"] == "svm"
    out = ("-o", tmp_path / "d.h5")
    assert run_frcnn("detect", f"voc:{voc}", "--split", "test", "--model", tmp_path / "run", *out).code == 0
    again = run_frcnn("train", "--resume", "-o", tmp_path / "run", "--json")
    assert "is finished" in again.err
    assert (again.json["iterations"], again.json["loss"]) == (10, None)


def test_stopped_while_svms_are_fitted(line, tmp_path, monkeypatch):
    from frcnn_cli.training import trainer as loop

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(loop, "fit_svms", interrupted)
        ran = run_frcnn(*line, "--set", "network.classifier=svm", "--epochs", "1")
    assert_one_line_error(ran, "the last checkpoint is kept", "--resume", code=130)
    again = run_frcnn("train", "--resume", "-o", tmp_path / "run", "--json")
    assert (again.code, again.json["iterations"]) == (0, 5)
    told = run_frcnn("inspect", tmp_path / "run", "--json").json
    assert told["recipe"]["network"]["classifier"] == "svm"


def test_a_split_without_an_object(line, voc, tmp_path):
    folder = tmp_path / "bare"
    shutil.copytree(voc, folder)
    for path in (folder / "Annotations").iterdir():
        if path.stem in (folder / "ImageSets/Main/trainval.txt").read_text().split():
            path.write_text("<annotation></annotation>")
    words = [f"voc:{folder}" if word == f"voc:{voc}" else word for word in line]
    assert_one_line_error(run_frcnn(*words), f"voc:{folder} trainval has no objects, so there is nothing to train on")
    assert not (tmp_path / "run").exists()


def test_a_split_that_the_data_set_tells_itself(line, voc):
    words = [f"voc:{voc}@trainval" if word == f"voc:{voc}" else word for word in line]
    ran = run_frcnn(*words, "--split", "test")
    assert ran.code == 2
    assert "states its own split" in ran.err
    assert run_frcnn("proposals", f"voc:{voc}@test", "--split", "test", "-o", "x.h5").code == 2


@pytest.mark.parametrize("option", [("--val-props", "x.h5"), ("--val-data", "voc:x"), ("--patience", "2")])
def test_what_is_for_validation_alone(line, option):
    ran = run_frcnn(*line, *option)
    assert ran.code == 2
    assert f"{option[0]} is for validation" in ran.err


def test_maps_leave_no_choice_of_layers_and_colours(line):
    for setting in ("network.train_from=conv2", "images.colour_jitter=0.5", "images.train_short_sides=[90, 120]"):
        ran = run_frcnn(*line, "--features", "f.h5", "--set", setting)
        assert ran.code == 2
        assert f"{setting.split('=')[0]} cannot be" in ran.err
    shown = run_frcnn("train", "--features", "f.h5", "--show-config", "--json").json
    assert shown["network"]["train_from"] == "fc6"


def test_fewer_proposals_and_boxes_as_proposed(line, props, voc, tmp_path):
    ran = run_frcnn(*line, "--epochs", "1", "--set", "detection.proposals=5", "--set", "detection.refine=false")
    assert ran.code == 0, ran.err
    data = (f"voc:{voc}", "--split", "test")
    for command in (
        ("features", *data, "--model", tmp_path / "run", "-o", tmp_path / "f.h5"),
        (
            "score",
            tmp_path / "f.h5",
            "--props",
            props / "test.h5",
            "--model",
            tmp_path / "run",
            "-o",
            tmp_path / "s.h5",
        ),
        ("nms", tmp_path / "s.h5", "-o", tmp_path / "d.h5"),
    ):
        assert run_frcnn(*command).code == 0
    with StageFile(tmp_path / "s.h5") as scores, StageFile(props / "test.h5") as boxes:
        for image, arrays in scores:
            proposed = boxes[boxes.index[image.key]]["boxes"][:5]
            assert (arrays["boxes"] == proposed[:, None]).all()
    explained = ("--explain", "--scores", tmp_path / "s.h5", "--props", props / "test.h5")
    line = ("eval", tmp_path / "d.h5", "--data", data[0], *data[1:], *explained)
    assert run_frcnn(*line).code == 0


def test_curves(line, props, tmp_path):
    more = ("--epochs", "12", "--validate-on", "test", "--val-props", props / "test.h5", "--validate-every", "4")
    assert run_frcnn(*line, *more).code == 0
    page = tmp_path / "c.html"
    assert run_frcnn("curves", tmp_path / "run", "-o", page).code == 0
    assert run_frcnn("curves", tmp_path / "run").code == 0
    text = page.read_text()
    assert (tmp_path / "run/curves.html").read_text().count("<svg") == 1
    assert text.count("<svg") == 1
    assert "backbone = &quot;small&quot;" in text
    assert "http" not in text.split("<svg")[0]
    assert_one_line_error(run_frcnn("curves", tmp_path / "run", "-o", page), "exists already")
    assert run_frcnn("curves", tmp_path / "run", tmp_path / "run", "-o", page, "--force").code == 0
    (tmp_path / "run/config.json").write_text('{"recipe": {"network": {"once": 1}}}')
    assert run_frcnn("curves", tmp_path / "run", "-o", page, "--force").code == 0
    assert "another version" in page.read_text()
    assert run_frcnn("curves", tmp_path / "run", "-o", tmp_path / "c.pdf").code == 2
    assert_one_line_error(run_frcnn("curves", tmp_path, "-o", tmp_path / "d.html"), "holds no log")
    (tmp_path / "log.jsonl").write_text("{}\n")
    assert_one_line_error(run_frcnn("curves", tmp_path, "-o", tmp_path / "d.html"), "is not a log")


def test_tensorboard_is_optional(line, monkeypatch):
    pytest.importorskip("torch")
    if "tensorboard" in sys.modules or __import__("importlib.util").util.find_spec("tensorboard"):
        pytest.skip("it is installed")
    assert_one_line_error(run_frcnn(*line, "--tensorboard"), "pip install tensorboard")


@pytest.mark.extra
def test_event_files_of_tensorboard(line, tmp_path):
    pytest.importorskip("tensorboard", reason="needs the extra tensorboard")
    assert run_frcnn(*line, "--epochs", "2", "--tensorboard").code == 0
    assert list((tmp_path / "run/tensorboard").glob("events.out.tfevents.*"))


def test_everything_tells_its_recipe(line, props, voc, tmp_path):
    assert run_frcnn(*line, "--recipe", "modern", "--set", "loss.beta=0.5", "--epochs", "1").code == 0
    wanted = Recipe.load("modern").changed(
        {
            "network.backbone": "small",
            "images.short_side": 0,
            "loss.beta": 0.5,
            "solver.epochs": 1.0,
            "sampling.background_iou": (0.0, 0.5),
        }
    )
    work = tmp_path
    for command in (
        ("features", f"voc:{voc}", "--split", "test", "--model", work / "run", "-o", work / "f.h5"),
        ("score", work / "f.h5", "--props", props / "test.h5", "--model", work / "run", "-o", work / "s.h5"),
        ("nms", work / "s.h5", "-o", work / "d.h5"),
        ("detect", f"voc:{voc}", "--split", "test", "--model", work / "run", "-o", work / "e.h5"),
    ):
        ran = run_frcnn(*command)
        assert ran.code == 0, ran.err
    for name in "fsde":
        with StageFile(work / f"{name}.h5") as file:
            told = file.provenance
        while "recipe" not in told:
            told = told["scores"]
        assert Recipe.from_dict(told["recipe"]) == wanted
    assert Recipe.from_dict(json.loads((work / "run/config.json").read_text())["recipe"]) == wanted
    assert json.loads(run_frcnn("inspect", work / "run", "--json").out)["recipe"] == wanted.to_dict()


def test_a_hundred_iterations_are_sixty_and_forty_after_a_kill(line, tmp_path):
    """To the bit: weights, momentum, average. The run is killed with -9 after the checkpoint of its 60th iteration."""
    more = ("--epochs", "20", "--checkpoint-every", "12", "--lr", "0.01", "--set", "solver.ema_decay=0.9", "-q")
    assert run_frcnn(*line, *more).code == 0
    whole = load_file(tmp_path / "run/state.safetensors")
    parts = (*line[:6], tmp_path / "parts", *line[7:])
    process = subprocess.Popen([sys.executable, "-m", "frcnn_cli", *map(str, (*parts, *more))])
    wait_for(lambda: (tmp_path / "parts/model.safetensors").exists(), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    told = json.loads(run_frcnn("inspect", tmp_path / "parts", "--json").out)
    assert 60 <= told["trained"]["iteration"] < 100
    assert run_frcnn("train", "--resume", "-o", tmp_path / "parts", "-q").code == 0
    resumed = load_file(tmp_path / "parts/state.safetensors")
    assert resumed.keys() == whole.keys()
    assert all((resumed[name] == value).all() for name, value in whole.items())
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("run", "parts")]
    assert files[0] == files[1]


def test_the_log_of_a_run_that_ends_early_is_complete(line, props, tmp_path):
    ran = run_frcnn(*line, *no_better(props, 4, 1))
    assert ran.code == 0, ran.err
    assert "training stops" in ran.err
    losses = [entry for entry in log(tmp_path / "run") if "loss" in entry]
    told = json.loads(run_frcnn("inspect", tmp_path / "run", "--json").out)
    assert losses[-1]["iteration"] == told["trained"]["iteration"] == 10
    assert run_frcnn("curves", tmp_path / "run").code == 0
