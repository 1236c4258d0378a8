"""Processes that are killed at random moments or run out of disk space, and are run again: equal datasets each time."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from frcnn_cli.data.synthetic import make_dataset
from tests.conftest import same_datasets
from tests.soak.files import TRAINING, WINDOWS
from tests.soak.table import Row, Table

LIMITED = (
    "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2);"
    "from frcnn_cli.cli import main; main(sys.argv[2:])"
)


class Stages:
    """Every stage as a command, with the outcome of an undisturbed run."""

    def __init__(self, folder: Path) -> None:
        """Runs all stages once in a new folder."""
        self.folder = folder
        whole = folder / "whole"
        make_dataset(folder / "voc", train=24, test=2, seed=2, size=(120, 100))
        data = f"voc:{folder / 'voc'}"
        images = (data, "--split", "trainval")
        made = {name: whole / f"{name}.h5" for name in ("props", "feats", "scores", "dets", "detect")}
        run = whole / "run"
        self.lines: dict[str, tuple[object, ...]] = {
            "props.h5": ("proposals", *images, *WINDOWS),
            "run": ("train", "--data", data, "--props", made["props"], *TRAINING, "--checkpoint-every", 0.1),
            "feats.h5": ("features", *images, "--model", run),
            "scores.h5": ("score", made["feats"], "--props", made["props"], "--model", run),
            "dets.h5": ("nms", made["scores"]),
            "detect.h5": ("detect", *images, "--model", run, *WINDOWS[:2]),
        }
        self.seconds: dict[str, float] = {}
        for name in self.lines:
            began = time.monotonic()
            process = self.start(name, whole / name)
            if process.wait():
                raise RuntimeError(f"{name} failed")
            self.seconds[name] = time.monotonic() - began

    def start(self, name: str, output: Path, most: int | None = None) -> subprocess.Popen[str]:
        """Starts the stage. most: a limit on the size of its files, which stands for a full disk."""
        line = [*map(str, self.lines[name]), "-o", str(output), "-q"]
        if name == "run" and (output / "state.safetensors").exists():
            line.append("--resume")
        launch = ["-m", "frcnn_cli"] if most is None else ["-c", LIMITED, str(most)]
        return subprocess.Popen([sys.executable, *launch, *line], stderr=subprocess.PIPE, text=True)

    def is_done(self, name: str, output: Path) -> bool:
        """Whether a disturbed run has the outcome of the undisturbed one."""
        whole = self.folder / "whole" / name
        if name != "run":
            return same_datasets(output, whole)
        files = ("model.safetensors", "state.safetensors")
        return all((output / file).read_bytes() == (whole / file).read_bytes() for file in files)


def kills(stages: Stages, generator: random.Random, until: float, table: Table) -> None:
    """Kills randomly chosen stages at random moments, and completes them, until `time.monotonic()` reaches `until`."""

    def disturb(name: str, output: Path) -> tuple[int, str]:
        process = stages.start(name, output)
        try:
            _, err = process.communicate(timeout=generator.uniform(0.2, 1.2) * stages.seconds[name])
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return -9, ""
        return process.returncode, err

    _disturbed(stages, generator, until, table, "kills: ", disturb)


def full_disks(stages: Stages, generator: random.Random, until: float, table: Table) -> None:
    """Lets each stage run out of space at random sizes, and then completes it."""

    def disturb(name: str, output: Path) -> tuple[int, str]:
        whole = stages.folder / "whole" / name
        size = max(f.stat().st_size for f in whole.iterdir()) if whole.is_dir() else whole.stat().st_size
        process = stages.start(name, output, generator.randrange(1, int(1.3 * size)))
        _, err = process.communicate()
        return process.returncode, err

    _disturbed(stages, generator, until, table, "full disk: ", disturb)


def _disturbed(
    stages: Stages,
    generator: random.Random,
    until: float,
    table: Table,
    title: str,
    disturb: Callable[[str, Path], tuple[int, str]],
) -> None:
    while time.monotonic() < until:
        name = generator.choice(list(stages.lines))
        output = stages.folder / "disturbed" / name
        shutil.rmtree(output.parent, ignore_errors=True)
        row = table[title + name]
        for _ in range(generator.randrange(1, 5)):
            began = time.monotonic()
            code, err = disturb(name, output)
            if code == 0:
                break
            row.add(code == 1, time.monotonic() - began)
            if code not in (1, -9) or (code == 1 and ("Traceback" in err or err.count("error: ") != 1)):
                row.failures.append(f"{name}: exit code {code}: {err}")
        _finish(stages, name, output, row)


def _finish(stages: Stages, name: str, output: Path, row: Row) -> None:
    """Runs the stage undisturbed, and compares."""
    if name == "run" or not output.exists():
        process = stages.start(name, output)
        _, err = process.communicate()
        if process.returncode:
            row.failures.append(f"{name}: could not be continued: {err}")
            return
    if not stages.is_done(name, output):
        row.failures.append(f"{name}: other datasets than of the undisturbed run")
    left = [path.name for path in output.parent.iterdir() if path != output]
    if left:
        row.failures.append(f"{name}: left behind: {left}")
