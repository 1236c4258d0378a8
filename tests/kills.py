"""Kills processes of runs on several machines and devices, lets the runs go on, and compares what they wrote.

    python -m tests.kills [--rounds 5]

Each round kills with SIGKILL, at a random moment: one shard of three, one worker process of two, the driver of a Ray
cluster and one of its nodes, and one rank of two in training. The same command, run again, must write the same
datasets, or weights, as a run without kills. It prints a line per kill, and exits with 1 if any of them differs.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load_file

from frcnn_cli.data.synthetic import make_dataset
from tests.conftest import ROOT, same_datasets, wait_for

COUNT = 150
counts = {"shard": 0, "worker": 0, "driver": 0, "node": 0, "rank": 0}
failures = 0


def frcnn(*words: object) -> list[str]:
    return [sys.executable, "-m", "frcnn_cli", *map(str, words), "-q"]


def start(*words: object) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        frcnn(*words), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def run(*words: object) -> None:
    process = start(*words)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_far(output: Path, share: float, whole: int) -> Callable[[], bool]:
    """Whether this share of the work is written."""
    journal = output.with_name(output.name + ".partial")
    return lambda: journal.exists() and journal.stat().st_size > share * whole


def report(kind: str, what: str, equal: bool) -> None:
    global failures
    counts[kind] += 1
    failures += not equal
    print(f"{sum(counts.values()):3d}  {kind:7} {what:50} {'equal' if equal else 'DIFFERENT'}", flush=True)


def kill_a_shard(images: Path, one: Path, folder: Path, moment: random.Random) -> None:
    hit = moment.randrange(1, 4)
    for number in (1, 2, 3):
        output = folder / f"shard-{number}.h5"
        words = ("proposals", images, "--shard", f"{number}/3", "--workers", 1, "-o", output)
        if number == hit:
            share = moment.random() * 0.8
            process = start(*words)
            wait_for(is_far(output, share, one.stat().st_size // 3), process)
            process.kill()
            process.wait()
            assert not output.exists(), "it had ended already"
        run(*words)
    run("merge", folder / "shard-*.h5", "-o", folder / "merged.h5")
    report("shard", f"shard {hit} of 3 at {share:.0%}", same_datasets(one, folder / "merged.h5"))


def kill_a_worker(images: Path, one: Path, folder: Path, moment: random.Random) -> None:
    output, share = folder / "workers.h5", moment.random() * 0.8
    words = ("proposals", images, "--workers", 2, "-o", output)
    process = start(*words)
    wait_for(is_far(output, share, one.stat().st_size), process)
    os.kill(moment.choice(children(process.pid)), signal.SIGKILL)
    _, errors = process.communicate(timeout=600)
    if process.returncode:  # the image that it was computing is named; it is computed now
        assert "ended its process on" in errors, errors
        run(*words)
    report("worker", f"one of 2 at {share:.0%}", same_datasets(one, output))


def kill_on_a_cluster(images: Path, one: Path, folder: Path, moment: random.Random, cluster: object) -> None:
    for kind in ("driver", "node"):
        output, share = folder / f"{kind}.h5", moment.random() * 0.6
        words = ("proposals", images, "--cluster", cluster.address, "-o", output)
        process = start(*words)
        wait_for(is_far(output, share, one.stat().st_size), process)
        if kind == "driver":
            process.kill()
            process.wait()
            time.sleep(1)
            run(*words)
        else:
            cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
            _, errors = process.communicate(timeout=600)
            assert process.returncode == 0, errors
            cluster.add_node(num_cpus=1)
        report(kind, f"at {share:.0%}", same_datasets(one, output))


def kill_a_rank(data: str, props: Path, whole: Path, folder: Path, moment: random.Random) -> None:
    process = start(*training(data, props, folder / "run"))
    wait_for((folder / "run/state.safetensors").exists, process)
    later = moment.random()  # seconds after the first checkpoint
    time.sleep(later)
    ranks = [child for child in children(process.pid) if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    os.kill(moment.choice(ranks), signal.SIGKILL)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 1, errors
    assert "was ended by SIGKILL" in errors, errors
    run(*training(data, props, folder / "run"), "--resume")
    trained, wanted = (load_file(path / "model.safetensors") for path in (folder / "run", whole))
    equal = all(np.array_equal(trained[name], value) for name, value in wanted.items())
    report("rank", f"one of 2, {later:.1f} s after the first checkpoint", equal)


def training(data: str, props: Path, output: Path) -> tuple[object, ...]:
    """400 iterations on two devices, with a checkpoint per epoch of eight images."""
    return (
        "train", "--data", data, "--split", "trainval", "--props", props, "-o", output, "--weights", "none",
        "--backbone", "small", "--short-side", 0, "--background-iou", 0, 0.5, "--rois", 24, "--lr", 1e-4,
        "--batch-images", 2, "--devices", 2, "--device", "cpu", "--set", "solver.iterations=400",
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    os.environ |= {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    moment = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as temporary:
        here = Path(temporary)
        images = here / "images"
        images.mkdir()
        rng = np.random.default_rng(0)
        for i in range(COUNT):
            coarse = rng.integers(0, 256, (15, 20, 3), dtype=np.uint8)
            Image.fromarray(coarse.repeat(10, 0).repeat(10, 1)).save(images / f"{i:04d}.png")
        run("proposals", images, "--workers", 0, "-o", here / "one.h5")
        make_dataset(here / "data", train=8, test=2, seed=0, size=(110, 90))
        data, props = f"voc:{here / 'data'}", here / "props.h5"
        run("proposals", data, "--split", "trainval", "-o", props)
        run(*training(data, props, here / "whole"))
        for number in range(args.rounds):
            folder = here / f"round-{number}"
            folder.mkdir()
            kill_a_shard(images, here / "one.h5", folder, moment)
            kill_a_worker(images, here / "one.h5", folder, moment)
            kill_on_a_cluster(images, here / "one.h5", folder, moment, cluster)
            kill_a_rank(data, props, here / "whole", folder, moment)
    cluster.shutdown()
    kinds = ", ".join(f"{number} of a {kind}" for kind, number in counts.items())
    print(f"{sum(counts.values())} kills ({kinds}), {failures} differences")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
