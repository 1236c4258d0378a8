"""frcnn train on several devices: --devices, torchrun, kills, Ctrl-C, and every kind of training."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from tests.conftest import assert_one_line_error, run_frcnn, wait_for

# A low learning rate, so that differences of rounding do not grow: see tests/training/test_ranks.py.
SMALL = (
    *("--backbone", "small", "--weights", "none", "--short-side", 0, "--background-iou", 0, 0.5, "--rois", 24),
    *("--batch-images", 6, "--lr", 1e-5, "--device", "cpu"),
)
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture
def props(voc, tmp_path):
    line = ("proposals", voc / "JPEGImages", "-o", tmp_path / "props.h5", "--source", "sliding-window", "--workers", 0)
    assert run_frcnn(*line).code == 0
    return tmp_path / "props.h5"


def command(voc, props, run, *more, start=("-m", "frcnn_cli")):
    line = ("train", "--data", f"voc:{voc}", "--split", "trainval", "--props", props, "-o", run, *SMALL, *more)
    return [sys.executable, *start, *map(str, line)]


def train(*arguments, **options):
    return subprocess.run(command(*arguments, **options), env=ENVIRONMENT, capture_output=True, text=True)


def difference(first, second, name="model.safetensors"):
    """The largest difference of weights, relative to the largest weight."""
    one, other = load_file(first / name), load_file(second / name)
    assert one.keys() == other.keys()
    return max(abs(one[key] - other[key]).max() for key in one) / max(abs(value).max() for value in one.values())


def children(process):
    """The processes that a process has started."""
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads /proc")
def test_killed_on_two_devices_and_resumed_on_three(voc, props, tmp_path):
    """100 iterations on one device = 40 on two, kill -9 of a rank, and the rest on three."""
    length = ("--set", "solver.iterations=100")
    assert train(voc, props, tmp_path / "one", *length).returncode == 0
    assert train(voc, props, tmp_path / "short", "--set", "solver.iterations=1").returncode == 0
    assert difference(tmp_path / "one", tmp_path / "short") > 1e-3  # what is learned in 100 iterations
    run, every = tmp_path / "many", 40 * 6 / 10  # epochs: 10 images
    line = command(voc, props, run, *length, "--devices", 2, "--checkpoint-every", every)
    process = subprocess.Popen(line, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    wait_for((run / "state.safetensors").exists, process)
    ranks = [pid for pid in children(process) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(ranks[-1], signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    lines = [line for line in err.splitlines() if not line.startswith(("training on", "warning: "))]
    assert len(lines) == 1, err
    assert "rank 1 of 2" in lines[0]
    assert "SIGKILL" in lines[0]
    assert not list(run.glob("*.tmp*"))
    again = [
        sys.executable,
        "-m",
        "frcnn_cli",
        "train",
        "--resume",
        "-o",
        str(run),
        "--devices",
        "3",
        "--device",
        "cpu",
    ]
    done = subprocess.run(again, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert difference(tmp_path / "one", run) < 1e-5
    logged = [json.loads(line)["iteration"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert logged == [*range(10, 101, 10)]


@pytest.mark.slow
def test_torchrun_trains_like_devices(voc, props, tmp_path):
    length = ("--set", "solver.iterations=4")
    start = ("-m", "torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0")
    done = train(voc, props, tmp_path / "run", *length, "--json", start=(*start, "-m", "frcnn_cli"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["iterations"] == 4  # of one process: the other is silent
    assert train(voc, props, tmp_path / "devices", *length, "--devices", 2).returncode == 0
    assert difference(tmp_path / "run", tmp_path / "devices") == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        ("--set", "solver.stages=sequential"),
        ("--set", "network.classifier=svm"),
        ("--validate-on", "test", "--validate-every", 1.2, "--patience", 2),
    ],
    ids=["sequential", "svm", "validation"],
)
def test_every_kind_of_training(voc, props, tmp_path, more):
    length = ("--set", "solver.iterations=6")
    for name, devices in (("one", 1), ("two", 2)):
        done = train(voc, props, tmp_path / name, *length, *more, "--devices", devices)
        assert done.returncode == 0, done.stderr
    assert difference(tmp_path / "one", tmp_path / "two") < 1e-5
    logs = [[json.loads(line) for line in (tmp_path / name / "log.jsonl").open()] for name in ("one", "two")]
    for one, two in zip(*logs, strict=True):
        for name in one.keys() - {"images_per_second", "eta_seconds"}:
            assert two[name] == pytest.approx(one[name], rel=1e-4, abs=1e-5), name


@pytest.mark.slow
def test_only_the_head_from_cached_maps(voc, props, tmp_path):
    maps = tmp_path / "feats.h5"
    line = ("features", f"voc:{voc}", "--split", "trainval", "--backbone", "small", "--weights", "none")
    assert run_frcnn(*line, "--short-side", 0, "--mirrored", "-o", maps, "--device", "cpu").code == 0
    length = ("--set", "solver.iterations=6", "--features", maps)
    for name, devices in (("one", 1), ("two", 2)):
        done = train(voc, props, tmp_path / name, *length, "--devices", devices)
        assert done.returncode == 0, done.stderr
    assert difference(tmp_path / "one", tmp_path / "two") < 1e-5


def test_ctrl_c_saves_and_stops(voc, props, tmp_path):
    run = tmp_path / "run"
    line = command(voc, props, run, "--set", "solver.iterations=5000", "--devices", 2, "--checkpoint-every", 1)
    process = subprocess.Popen(line, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    wait_for((run / "state.safetensors").exists, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "and saved" in err
    assert "frcnn train --resume" in err


def test_a_run_that_diverges_after_a_checkpoint(voc, props, tmp_path):
    more = ("--lr", 1e6, "--set", "solver.iterations=50", "--devices", 2, "--checkpoint-every", 0.01, "--warmup", 0)
    done = train(voc, props, tmp_path / "run", *more)
    assert done.returncode == 1
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error"))
    if (tmp_path / "run" / "state.safetensors").exists():
        assert "is kept in" in line
    else:
        assert "there is no checkpoint of this run yet" in line


def test_what_is_refused(voc, props, tmp_path):
    line = ("train", "--data", f"voc:{voc}", "--split", "trainval", "--props", props, "-o", tmp_path / "run", *SMALL)
    done = run_frcnn(*line, "--devices", 7)
    assert_one_line_error(done, "7 devices cannot share mini-batches of 6 image(s)", code=2)
    done = run_frcnn(*line, "--devices", 2, "--device", "cuda:0")
    assert done.code != 0
    assert done.err.count("\n") == 1
