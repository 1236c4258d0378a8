"""What many tests share: the data that others made, a small data set, and the command line."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# A test may be slow on a loaded machine; it must not fail there.
settings.register_profile("frcnn", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("frcnn")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data and weights; tests that need them skip where they are absent."""
    folder = Path(os.environ.get("FRCNN_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no test data in {folder}; set FRCNN_TEST_DATA")
    return folder


@dataclass
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run_frcnn(*arguments: object, cwd: Path | None = None, env: dict[str, str] | None = None) -> Ran:
    """The command line in this process: what `frcnn` calls, without the seconds that importing torch takes."""
    from click.testing import CliRunner

    from frcnn_cli.cli import main

    with contextlib.chdir(cwd or Path.cwd()):
        done = CliRunner(env=env or {}).invoke(main, [str(argument) for argument in arguments], prog_name="frcnn")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Ran(done.exit_code, done.stdout, done.stderr)


def run_process(*arguments: object) -> Ran:
    """The command line through its entry point, in a process of its own."""
    line = [sys.executable, "-m", "frcnn_cli", *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    return Ran(done.returncode, done.stdout, done.stderr)


def wait_for(happened: Callable[[], bool], process: subprocess.Popen[Any], seconds: float = 600) -> None:
    """Returns when it has happened or the process has ended; fails after a time that is long on any machine."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and not happened():
        assert time.monotonic() < deadline, f"it has not happened in {seconds} s"
        time.sleep(0.002)


def assert_one_line_error(ran: Ran, *words: str, code: int = 1) -> None:
    """An error as users should see it: this exit code, one line, no traceback, and these words in it."""
    assert ran.code == code, ran.err
    assert "Traceback" not in ran.err
    errors = [line for line in ran.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, ran.err
    for word in words:
        assert word in errors[0], errors[0]


@pytest.fixture(scope="session")
def voc(tmp_path_factory) -> Path:
    """A data set in VOC layout: 10 images to train on, 6 to test on. Not to be written to."""
    from frcnn_cli.data.synthetic import make_dataset

    folder = tmp_path_factory.mktemp("voc")
    make_dataset(folder, train=10, test=6, seed=5, size=(110, 90))
    return folder


@pytest.fixture
def photo(tmp_path) -> Path:
    """One small picture file."""
    from PIL import Image

    path = tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def with_provenance(source: Path, target: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """A copy of a file of ours whose provenance `change` edited in place."""
    from frcnn_cli.store.reader import StageFile
    from frcnn_cli.store.writer import StageWriter

    with StageFile(source) as old:
        change(old.provenance)
        with StageWriter(target, old.format, old.provenance, force=True) as out:
            for image, arrays in old:
                out.add(image, arrays)
            out.finish()
    return target


def same_datasets(a: Path, b: Path) -> bool:
    """Whether two files of ours hold the same datasets and attributes."""
    import h5py

    def contents(path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        with h5py.File(path) as file:
            file.visititems(lambda name, x: found.update({name: x[()]}) if isinstance(x, h5py.Dataset) else None)
            found.update({f"@{name}": value for name, value in file.attrs.items()})
        return found

    one, other = contents(a), contents(b)
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def ray_cluster() -> Any:
    """A head without cores and two nodes of one core each, on this machine."""
    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"  # as system.cluster sets it, before Ray is imported
    pytest.importorskip("ray", reason="needs frcnn-cli[ray]")
    from ray.cluster_utils import Cluster

    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT)  # of the processes that Ray starts
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(2):
        made.add_node(num_cpus=1)
    yield made
    made.shutdown()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before
