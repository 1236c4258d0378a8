"""The stages with a network on a Ray cluster: equal to one process, whatever the cluster does."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from frcnn_cli.core.errors import FrcnnError
from frcnn_cli.core.find import image_refs
from frcnn_cli.detector.detector import Detector
from frcnn_cli.inference.detect import run_detection
from frcnn_cli.inference.embed import embed_boxes
from frcnn_cli.inference.features import extract_features
from frcnn_cli.inference.score import score_proposals
from frcnn_cli.inference.work import Computed, Work
from frcnn_cli.proposals.registry import get_source
from frcnn_cli.proposals.run import propose_images
from frcnn_cli.recipes.recipe import Recipe
from frcnn_cli.system.cluster import Cluster, Finished, run_tasks
from tests.conftest import run_frcnn, same_datasets, wait_for

pytestmark = pytest.mark.extra
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Twelve photographs of noise, and a file that is none."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(12):
        cv2.imwrite(str(folder / f"{i:02d}.png"), rng.integers(0, 256, (60 + 10 * (i % 3), 80, 3), dtype=np.uint8))
    (folder / "bad.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def detector():
    recipe = Recipe().changed({"network.backbone": "squeezenet1_0", "images.short_side": 120})
    return Detector.untrained(recipe, "none", "cpu")


@pytest.mark.parametrize("options", [{}, {"mirrored": True}, {"dtype": "int4", "pca": 16}])
def test_features(ray_cluster, images, detector, tmp_path, options):
    here = extract_features(images, detector, tmp_path / "here.h5", **options)
    away = extract_features(images, detector, tmp_path / "away.h5", cluster=Cluster(ray_cluster.address), **options)
    assert here.images == away.images == 12
    assert here.failed.keys() == away.failed.keys() == {"bad.png"}
    assert same_datasets(tmp_path / "here.h5", tmp_path / "away.h5")


def test_images_are_sent(ray_cluster, images, detector, tmp_path):
    cluster = Cluster(ray_cluster.address, send_images=True)
    extract_features(images, detector, tmp_path / "here.h5")
    away = extract_features(images, detector, tmp_path / "away.h5", cluster=cluster)
    assert str(images / "bad.png") in str(away.failed["bad.png"])
    assert same_datasets(tmp_path / "here.h5", tmp_path / "away.h5")


def test_score_from_shards(ray_cluster, images, detector, tmp_path, monkeypatch):
    """The tasks open the files themselves, by their paths from another folder."""
    monkeypatch.chdir(tmp_path)
    for i in (1, 2):
        extract_features(images, detector, f"feats-{i}.h5", shard=f"{i}/2")
    propose_images(images, "props.h5", get_source("sliding-window"), workers=0)
    score_proposals("feats-*.h5", "props.h5", detector, "here.h5")
    score_proposals("feats-*.h5", "props.h5", detector, "away.h5", cluster=Cluster(ray_cluster.address))
    assert same_datasets("here.h5", "away.h5")


def test_detect_with_pictures(ray_cluster, images, detector, tmp_path):
    """The pixels stay on the machines; pictures are drawn by the driver, which reads the images again."""
    seen: dict[str, list[tuple[str, int]]] = {"here": [], "away": []}
    for name, cluster in (("here", None), ("away", Cluster(ray_cluster.address))):
        run = run_detection(
            image_refs(images), detector, source=get_source("sliding-window"), output=tmp_path / f"{name}.h5",
            cluster=cluster,            thresholds=detector.thresholds.changed(min_score=0.0),
            on_detected=lambda image, found, name=name: seen[name].append((image.key, len(found))),
        )  # fmt: skip
        assert run.failed.keys() == {"bad.png"}
        assert list(run.detections) == sorted(run.detections)
    assert sorted(seen["here"]) == sorted(seen["away"])
    assert same_datasets(tmp_path / "here.h5", tmp_path / "away.h5")


def test_embed(ray_cluster, images, detector, tmp_path):
    propose_images(images, tmp_path / "props.h5", get_source("sliding-window"), workers=0)
    for name, cluster in (("here", None), ("away", Cluster(ray_cluster.address))):
        line = (images, detector, tmp_path / f"{name}.h5")
        embed_boxes(*line, boxes=tmp_path / "props.h5", layer="mean", cluster=cluster)
    assert same_datasets(tmp_path / "here.h5", tmp_path / "away.h5")


def test_boxes_of_a_file_that_is_named_from_here(ray_cluster, images, detector, tmp_path, monkeypatch):
    """Tasks run in another folder."""
    monkeypatch.chdir(tmp_path)
    propose_images(images, "props.h5", get_source("sliding-window"), workers=0)
    source = get_source("file", path=Path("props.h5"))
    away = propose_images(images, "again.h5", source, cluster=Cluster(ray_cluster.address))
    assert away.failed.keys() == {"bad.png"}
    assert away.images == 12


def test_nothing_to_do_needs_no_cluster(images, detector, tmp_path):
    work = extract_features(images, detector, tmp_path / "f.h5", cluster=None)
    assert work.images == 12
    assert list(run_tasks(Cluster("127.0.0.1:9"), len, b"", [])) == []


def test_scores_that_a_cluster_lost_are_not_missing_silently(images, detector, tmp_path, monkeypatch):
    """The run ends with the error of the images; the same command continues."""
    extract_features(images, detector, tmp_path / "f.h5")
    propose_images(images, tmp_path / "p.h5", get_source("sliding-window"), workers=0)
    line = (tmp_path / "f.h5", tmp_path / "p.h5", detector, tmp_path / "s.h5")

    def losing(cluster, function, shared, items, prepared):
        yield Finished(list(items[:2]), lost="6 times (X)")
        results = function("name", lambda: shared, prepared(list(items[2:])))
        yield Finished(list(items[2:]), results)

    with monkeypatch.context() as patch:
        patch.setattr("frcnn_cli.system.cluster.run_tasks", losing)
        with pytest.raises(FrcnnError, match=r"the cluster lost 00\.png 6 times"):
            score_proposals(*line, cluster=Cluster("auto"))
    assert not (tmp_path / "s.h5").exists()
    done = score_proposals(*line)
    assert (done.images, done.computed) == (12, 2)


class Nothing(Work):
    """Work that finds nothing."""

    def compute(self, refs):
        yield from (Computed(ref) for ref in refs)


def test_a_task_without_gpus_uses_the_cpu(detector, monkeypatch):
    """Whatever GPUs its process sees; and a GPU that was asked for must be there."""
    from frcnn_cli.inference import work

    asked = []
    monkeypatch.setattr(Detector, "to", lambda self, device: asked.append(str(device)) or self)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for device in ("cpu", "cuda"):
        work.unpacked(device, lambda device=device: work._packed(Nothing(detector), device))
        assert asked[-1] == device
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(FrcnnError, match="PyTorch finds no GPU"):
        work.unpacked("again", lambda: work._packed(Nothing(detector), "cuda"))


def test_a_gpu_that_no_machine_has(ray_cluster, images, detector, tmp_path):
    with pytest.raises(FrcnnError, match=r"no machine .* has 1 core\(s\) and 1 GPU\(s\) for a task"):
        extract_features(images, detector, tmp_path / "f.h5", cluster=Cluster(ray_cluster.address, gpus=1))


def test_a_damaged_file_is_named_as_on_one_machine(ray_cluster, images, detector, tmp_path):
    extract_features(images, detector, tmp_path / "f.h5")
    propose_images(images, tmp_path / "p.h5", get_source("sliding-window"), workers=0)
    content = bytearray((tmp_path / "f.h5").read_bytes())
    content[5000] ^= 255  # in the maps
    (tmp_path / "f.h5").write_bytes(content)
    with pytest.raises(FrcnnError, match=r"f\.h5 is damaged"):
        score_proposals(
            tmp_path / "f.h5", tmp_path / "p.h5", detector, tmp_path / "s.h5", cluster=Cluster(ray_cluster.address)
        )


_DRIVE = """
import sys
from frcnn_cli.detector.detector import Detector
from frcnn_cli.inference.features import extract_features
from frcnn_cli.recipes.recipe import Recipe
from frcnn_cli.system.cluster import Cluster, Finished, run_tasks
recipe = Recipe().changed({"network.backbone": "squeezenet1_0", "images.short_side": 240})
detector = Detector.load(sys.argv[4], "cpu")
done = extract_features(sys.argv[2], detector, sys.argv[3], cluster=Cluster(sys.argv[1]))
print(done.computed)
"""


def test_a_node_and_then_the_driver_are_killed(ray_cluster, detector, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for i in range(120):
        cv2.imwrite(str(folder / f"{i:03d}.png"), rng.integers(0, 256, (60, 80, 3), dtype=np.uint8))
    detector.save(tmp_path / "m.safetensors")
    extract_features(folder, detector, tmp_path / "here.h5")
    output = tmp_path / "away.h5"
    rows = output.with_name("away.h5.partial-rows")

    def start():
        line = [sys.executable, "-c", _DRIVE, ray_cluster.address, folder, output, tmp_path / "m.safetensors"]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            [*map(str, line)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def size():
        return rows.stat().st_size if rows.exists() else 0

    driver = start()
    wait_for(lambda: size() > 100_000, driver)
    ray_cluster.remove_node(ray_cluster.list_all_nodes()[-1], allow_graceful=False)
    before = size()
    wait_for(lambda: size() > before + 100_000, driver)
    assert driver.poll() is None
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    time.sleep(1)
    ray_cluster.add_node(num_cpus=1)
    assert not output.exists()
    again = start()
    out, err = again.communicate(timeout=300)
    assert again.returncode == 0, err
    assert 0 < int(out.split()[-1]) < 120
    assert same_datasets(tmp_path / "here.h5", output)


def test_the_commands(ray_cluster, images, detector, tmp_path):
    """--cluster through the entry point; options of the cluster without one are refused."""
    detector.save(tmp_path / "m.safetensors")
    line = [sys.executable, "-m", "frcnn_cli", "features", images, "--model", tmp_path / "m.safetensors", "--json"]
    found = []
    for name, more in (("here", ()), ("away", ("--cluster", ray_cluster.address, "--task-cores", "0.5"))):
        done = subprocess.run(
            [*map(str, (*line, "-o", tmp_path / f"{name}.h5", *more))], capture_output=True, text=True
        )
        assert done.returncode == 1, done.stderr  # bad.png
        found.append(json.loads(done.stdout)["computed"])
    assert found == [12, 12]
    assert same_datasets(tmp_path / "here.h5", tmp_path / "away.h5")
    ran = run_frcnn(*line[3:], "-o", tmp_path / "f.h5", "--cluster", "ray", "--device", "cpu")
    assert ran.code == 2
    assert "--task-gpus gives GPUs to tasks" in ran.err
    for more in (("--task-gpus", 1), ("--send-images",), ("--task-cores", 2)):
        ran = run_frcnn("features", images, "--backbone", "squeezenet1_0", "-o", tmp_path / "f.h5", *more)
        assert ran.code == 2
        assert f"{more[0]} needs --cluster" in ran.err
