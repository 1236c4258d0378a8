"""Proposals on a Ray cluster: machines are lost, a driver is killed, images crash, hang or are missing."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from frcnn_cli.core.image import ImageRef
from tests.conftest import assert_one_line_error, run_frcnn, same_datasets, wait_for

pytestmark = pytest.mark.extra
ROOT = Path(__file__).parents[2]
IN_FLIGHT = 2 * 2 * 16  # tasks per core, cores, images per task


def folder_of(path, names):
    path.mkdir()
    rng = np.random.default_rng(0)
    for name in names:
        cv2.imwrite(str(path / name), rng.integers(0, 256, (60, 80, 3), dtype=np.uint8))
    return path


def start(address, images, output, log, *more):
    line = [sys.executable, "-m", "tests.proposals.drive", address, images, output, log, *more]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        list(map(str, line)), cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finished(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def lines(log):
    return log.read_text().split() if log.exists() else []


def test_a_node_is_removed_and_then_the_driver_is_killed(ray_cluster, tmp_path):
    images = folder_of(tmp_path / "images", [f"{i:04d}.png" for i in range(240)])
    log, output = tmp_path / "log", tmp_path / "many.h5"
    assert finished(start("none", images, tmp_path / "one.h5", log, 0.05)) == {}
    log.unlink()
    journal = output.with_name("many.h5.partial")
    driver = start(ray_cluster.address, images, output, log, 0.05)
    wait_for(lambda: len(lines(log)) > 30, driver)
    ray_cluster.remove_node(ray_cluster.list_all_nodes()[-1], allow_graceful=False)
    size = journal.stat().st_size
    wait_for(lambda: journal.stat().st_size > size + 2000, driver)  # it goes on without the node
    assert driver.poll() is None
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    time.sleep(1)
    before = len(lines(log))
    assert not output.exists()
    ray_cluster.add_node(num_cpus=1)
    again = start(ray_cluster.address, images, output, log, 0.05)
    wait_for(lambda: len(lines(log)) > before, again)
    assert finished(again) == {}
    assert same_datasets(tmp_path / "one.h5", output)
    times = Counter(lines(log))
    assert set(times) == {path.name for path in images.iterdir()}
    repeated = sum(count - 1 for count in times.values())
    print(f"{repeated} of 240 images were computed twice")
    assert repeated <= 2 * IN_FLIGHT  # once for the node, once for the driver


def test_images_that_crash_or_hang_are_named(ray_cluster, tmp_path):
    images = folder_of(tmp_path / "images", ["a.png", "b-crash.png", "c.png", "d-hang.png", "e.png"])
    failed = finished(start(ray_cluster.address, images, tmp_path / "p.h5", tmp_path / "log", 0, 2))
    assert failed.keys() == {"b-crash.png", "d-hang.png"}
    assert "ended its process on" in failed["b-crash.png"]
    assert "took longer than 2 s" in failed["d-hang.png"]


def test_images_that_are_missing_on_a_node(ray_cluster, tmp_path):
    """The list names a file that exists nowhere; the machine that looked for it is named."""
    images = folder_of(tmp_path / "images", ["a.png", "b.png"])
    (tmp_path / "list.txt").write_text(f"{images}/a.png\n{images}/gone.png\n")
    failed = finished(start(ray_cluster.address, f"@{tmp_path}/list.txt", tmp_path / "p.h5", tmp_path / "log", 0))
    (said,) = failed.values()
    assert "gone.png" in said
    assert f"(on {os.uname().nodename})" in said


def test_images_are_sent_with_the_tasks(ray_cluster, tmp_path):
    images = folder_of(tmp_path / "images", ["a.png", "b.png", "c.png"])
    (images / "d.png").write_bytes(b"\x89PNG nothing")
    assert len(finished(start("none", images, tmp_path / "one.h5", tmp_path / "log", 0))) == 1
    failed = finished(start(f"{ray_cluster.address}+send", images, tmp_path / "sent.h5", tmp_path / "log", 0))
    assert failed.keys() == {"d.png"}
    assert str(images / "d.png") in failed["d.png"]
    assert same_datasets(tmp_path / "one.h5", tmp_path / "sent.h5")


def test_the_command_on_a_ray_of_this_machine(tmp_path):
    pytest.importorskip("ray", reason="needs frcnn-cli[ray]")
    images = folder_of(tmp_path / "images", ["a.png", "b.png"])
    line = [sys.executable, "-m", "frcnn_cli", "proposals", images, "--source", "sliding-window"]
    for more in (("--cluster", "ray", "-o", tmp_path / "ray.h5"), ("-o", tmp_path / "one.h5")):
        done = subprocess.run([*map(str, (*line, *more))], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("\n") == 1, done.stderr  # of ours, none of Ray's
    assert same_datasets(tmp_path / "one.h5", tmp_path / "ray.h5")


def test_a_cluster_on_which_no_task_fits(ray_cluster, tmp_path):
    from frcnn_cli.core.errors import FrcnnError
    from frcnn_cli.proposals.cluster import propose_on_cluster
    from frcnn_cli.system.cluster import Cluster
    from tests.proposals.counted import Counted

    images = folder_of(tmp_path / "images", ["a.png"])
    refs = [ImageRef("a.png", images / "a.png")]
    with pytest.raises(FrcnnError, match=r"no machine of the cluster .* has 64 core\(s\)"):
        list(propose_on_cluster(refs, Counted(log="log"), Cluster(ray_cluster.address, cores=64)))


def test_what_is_refused(tmp_path):
    images = folder_of(tmp_path / "images", ["a.png"])
    line = ("proposals", images, "-o", tmp_path / "p.h5")
    assert_one_line_error(run_frcnn(*line, "--cluster", "nowhere"), "is no address of a cluster", code=2)
    assert_one_line_error(run_frcnn(*line, "--cluster", "127.0.0.1:9"), "nothing answers at 127.0.0.1:9")
    assert_one_line_error(run_frcnn(*line, "--cluster", "ray://127.0.0.1:x"), "nothing answers at")
    assert run_frcnn(*line, "--cluster", "ray", "--workers", 2).code == 2
    assert run_frcnn(*line, "--send-images").code == 2
