"""The public face: names, inputs, results as values, and one clear error for arguments that make no sense."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

import frcnn_cli
from frcnn_cli import Detections, GroundTruth, Image, Proposals, evaluate, propose, recall
from frcnn_cli.core.boxes import area, clip, iou
from frcnn_cli.core.errors import FrcnnError, UsageError
from frcnn_cli.detections.nms import detections_from_scores, nms
from frcnn_cli.roi.pooling import roi_align, roi_max_pool
from frcnn_cli.roi.score import Scores
from tests.conftest import ROOT, run_frcnn
from tests.detector.test_model import detector, picture

BOX = np.array([[1, 2, 30, 40]], np.float32)


def detections(score=0.5, label=0, classes=("a", "b")):
    return Detections(BOX, np.array([score]), np.array([label]), classes)


def test_every_name_can_be_imported_and_completed():
    for name in frcnn_cli.__all__:
        assert getattr(frcnn_cli, name).__doc__, name
    assert set(frcnn_cli.__all__) <= set(dir(frcnn_cli))
    assert Path(frcnn_cli.__file__).with_name("py.typed").exists()
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = frcnn_cli.nope


def test_the_module_of_errors_keeps_its_old_name():
    from frcnn_cli.errors import FrcnnError as Old

    assert Old is FrcnnError


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, frcnn_cli; assert not {'torch', 'numpy', 'cv2', 'click'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_images_of_every_kind(tmp_path):
    image = picture()
    path = tmp_path / "a.png"
    Pillow.fromarray(image.pixels).save(path)
    made = detector()
    expected = made.detect(image)
    assert len(expected) > 0
    for given in (path, str(path), Pillow.open(path), np.array(image.pixels)):
        found = made.detect(given)
        np.testing.assert_array_equal(found.boxes, expected.boxes)
        assert found.names.tolist() == expected.names.tolist()
        assert found.classes == ("a", "b")
        np.testing.assert_array_equal(propose(given, "sliding-window").boxes, propose(image, "sliding-window").boxes)
    with pytest.raises(TypeError, match="expected an image, a path, a PIL image or an array, got int"):
        made.detect(3)
    with pytest.raises(ValueError, match="uint8"):
        made.detect(np.zeros((3, 40, 60), np.float32))


def test_results_are_values():
    for one, same, other in (
        (detections(), detections(), detections(0.6)),
        (GroundTruth(BOX, [1]), GroundTruth(BOX, [1]), GroundTruth(BOX, [0])),
        (Proposals(BOX), Proposals(BOX.copy()), Proposals(BOX + 1)),
        (Scores(BOX, BOX[:, None]), Scores(BOX, BOX[:, None]), Scores(BOX, BOX[:, None] + 1)),
        (picture(0), picture(0), picture(1)),
    ):
        assert one == same
        assert hash(one) == hash(same)
        assert one != other
        assert len({one, same, other}) == 2


def test_detections_filter_name_and_plot(tmp_path):
    found = Detections(np.repeat(BOX, 3, 0), [0.9, 0.5, 0.1], [1, 0, 1], ("a", "b"))
    assert found.names.tolist() == ["b", "a", "b"]
    assert found.where(found.names == "b").scores.tolist() == pytest.approx([0.9, 0.1])
    image = picture()
    drawn = found.plot(image, tmp_path / "drawn.png")
    assert drawn.shape == image.pixels.shape
    assert not np.array_equal(drawn, image.pixels)
    np.testing.assert_array_equal(np.asarray(Pillow.open(tmp_path / "drawn.png")), drawn)
    with pytest.raises(FrcnnError, match="does not end like an image file"):
        found.plot(image, tmp_path / "drawn.xyz")
    with pytest.raises(ValueError, match="class names are unknown"):
        _ = Detections(BOX, [0.5], [0]).names


MAPS = torch.rand(1, 4, 8, 8)
ROIS = torch.tensor([[0.0, 0, 0, 30, 30]])


@pytest.mark.parametrize("pool", [roi_max_pool, roi_align])
@pytest.mark.parametrize(
    ("features", "rois", "size"),
    [
        (MAPS, ROIS[:, :4], 7),
        (MAPS, ROIS[0], 7),
        (MAPS, ROIS.int(), 7),
        (MAPS.int(), ROIS, 7),
        (MAPS[0], ROIS, 7),
        (MAPS, ROIS, 0),
    ],
)
def test_pooling_checks_its_arguments(pool, features, rois, size):
    with pytest.raises(ValueError, match="expected"):
        pool(features, rois, size, 1 / 16)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: iou(BOX[:, :3], BOX), r"boxes of shape \[N, 4\]"),
        (lambda: area(np.zeros(4)), r"boxes of shape \[N, 4\]"),
        (lambda: nms(BOX, np.zeros(2), 0.5), "expected boxes"),
        (lambda: nms(np.repeat(BOX, 2, 0), np.zeros(1), 0.5), "expected boxes"),
        (lambda: detections_from_scores(np.zeros((1, 3)), np.zeros((1, 3, 4))), "expected probabilities"),
        (lambda: detections(float("nan")), "scores hold NaN"),
        (lambda: detections(label=2), "label 2, but there are only 2 classes"),
        (lambda: detections(label=-1), "negative"),
        (lambda: Detections(BOX, [0.5, 0.4], [0]), "1 boxes, but 2 scores"),
        (lambda: GroundTruth(BOX, [0.5]), "whole numbers as labels"),
        (lambda: GroundTruth(BOX * np.nan, [0]), "NaN"),
        (lambda: Detections(BOX[:, :3], [0.5], [0]), r"\[N, 4\]"),
        (lambda: Image.from_array(np.zeros((0, 3, 3), np.uint8)), "empty"),
        (lambda: evaluate({"i": detections()}, {"i": GroundTruth(BOX, [0])}), "class names"),
        (lambda: evaluate({"i": detections(label=1)}, {"i": GroundTruth(BOX, [0])}, ["a"]), "label 1"),
        (lambda: evaluate({"i": detections()}, {"i": GroundTruth(BOX, [3])}, ["a"]), "label 3"),
        (lambda: evaluate({}, {"i": GroundTruth(BOX, [0])}, ["a"]), "no entry in detections"),
    ],
)
def test_arguments_that_make_no_sense(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_areas_and_overlaps_of_small_integers_do_not_overflow():
    boxes = np.array([[0, 0, 100, 100]], np.int8)
    assert area(boxes).tolist() == [10_000]
    assert iou(boxes, boxes).tolist() == [[1.0]]
    assert clip(boxes, 50, 60).tolist() == [[0, 0, 60, 50]]


def test_recall_of_pairs():
    [line] = recall([(BOX, GroundTruth(BOX, [0]))], [10])
    assert line.recall_50 == 1


def test_sources_by_name():
    assert frcnn_cli.get_source("selective-search", preset="quality").preset == "quality"
    with pytest.raises(UsageError, match="did you mean selective-search"):
        frcnn_cli.get_source("selective-serch")
    with pytest.raises(UsageError, match="did you mean preset"):
        frcnn_cli.get_source("selective-search", preste="quality")


def test_forward_has_gradients_and_is_what_detection_scores():
    from frcnn_cli.roi.rois import RoIs

    made = detector()
    image = torch.rand(1, 3, 64, 96)
    rois = RoIs.of_images([np.array([[0, 0, 40, 40], [10, 5, 60, 50]], np.float32)], [1.0])
    logits, deltas = made(image, rois)
    assert (logits.shape, deltas.shape) == ((2, 3), (2, 3, 4))
    (logits.sum() + deltas.sum()).backward()
    assert all(p.grad is not None for p in made.head.parameters())
    with torch.inference_mode():
        from_maps, _ = made(made.features(image), rois, from_maps=True)
    torch.testing.assert_close(from_maps, logits.detach())


class TestFirstMinutes:
    def test_a_misspelt_command(self):
        ran = run_frcnn("proposls")
        assert ran.code == 2
        assert "did you mean proposals?" in ran.err

    def test_an_unknown_source_and_an_unknown_option_exit_alike(self, photo, tmp_path):
        line = ("proposals", photo, "-o", tmp_path / "p.h5")
        assert run_frcnn(*line, "--source", "nope").code == run_frcnn(*line, "--set", "nope=1").code == 2

    def test_proposals_refuse_other_endings(self, photo, tmp_path):
        ran = run_frcnn("proposals", photo, "-o", tmp_path / "x.txt")
        assert ran.code == 2
        assert "must end in .h5" in ran.err

    def test_without_a_model_the_one_of_the_demo_is_named(self, photo, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("FRCNN_MODEL", raising=False)
        detector().save(tmp_path / "frcnn-demo/run/model.safetensors")
        spaced = tmp_path / "my photo.png"
        spaced.write_bytes(photo.read_bytes())
        monkeypatch.setattr(sys, "argv", ["frcnn", "features", str(spaced), "-o", "f.h5"])
        ran = run_frcnn("features", spaced, "-o", "f.h5")
        assert ran.code == 1
        assert f"frcnn features '{spaced}' -o f.h5 --model frcnn-demo/run" in ran.err

    def test_the_order_of_models(self, photo, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for name in ("named", "environment", "runs/newest"):
            detector().save(tmp_path / name / "model.safetensors")
        monkeypatch.setenv("FRCNN_MODEL", "environment")
        assert "model:" not in run_frcnn("detect", photo, "--model", "named").err
        assert "model: environment ($FRCNN_MODEL)" in run_frcnn("detect", photo).err
        monkeypatch.delenv("FRCNN_MODEL")
        assert "model: runs/newest (the newest under ./runs)" in run_frcnn("detect", photo).err
        monkeypatch.setenv("FRCNN_MODEL", "nowhere")
        assert "$FRCNN_MODEL names nowhere, which does not exist" in run_frcnn("detect", photo).err

    @pytest.mark.parametrize("line", [("detect", "nothere.jpg"), ("features", "{photo}")])
    def test_mistakes_are_found_before_torch_is_imported(self, line, photo, tmp_path):
        words = [word.format(photo=photo) for word in line] + (["-o", "f.h5"] if line[0] == "features" else [])
        code = (
            "import sys\nfrom frcnn_cli.cli import main\n"
            f"try: main({words!r})\nexcept SystemExit as ended: assert ended.code == 1, ended.code\n"
            "assert not {'torch', 'numba', 'cv2', 'h5py'} & set(sys.modules), sys.modules.keys()"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr

    def test_detection_imports_neither_torchvision_nor_dynamo(self, photo, tmp_path):
        detector().save(tmp_path / "model.safetensors")
        words = ["detect", str(photo), "--model", str(tmp_path / "model.safetensors")]
        code = (
            "import sys\nfrom frcnn_cli.cli import main\n"
            f"main({words!r}, standalone_mode=False)\n"
            "found = {'torchvision', 'torch._dynamo', 'sympy', 'matplotlib'} & set(sys.modules)\n"
            "assert not found, found"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


class TestDefaultSplit:
    """The split that the given file covers; otherwise trainval; otherwise the only one."""

    def test_what_the_file_covers(self, voc, tmp_path):
        for split in ("trainval", "test"):
            line = ("proposals", f"voc:{voc}", "--split", split, "-o", tmp_path / f"{split}.h5", "--workers", 0)
            assert run_frcnn(*line, "--source", "sliding-window").code == 0
        for split, images in (("trainval", 10), ("test", 6)):
            ran = run_frcnn("recall", tmp_path / f"{split}.h5", "--data", f"voc:{voc}", "--json")
            assert ran.json["files"][0]["images"] == images if "files" in ran.json else ran.json["images"] == images

    def test_trainval_or_the_only_one(self, voc, tmp_path):
        from frcnn_cli.core.errors import DataError
        from frcnn_cli.data.load import default_split

        assert default_split(f"voc:{voc}") == "trainval"
        lists = tmp_path / "ImageSets/Main"
        lists.mkdir(parents=True)
        (tmp_path / "Annotations").mkdir()
        (lists / "all.txt").write_text("a\n")
        assert default_split(f"voc:{tmp_path}") == "all"
        (lists / "more.txt").write_text("a\n")
        with pytest.raises(DataError, match="has no split 'trainval'.*all, more"):
            default_split(f"voc:{tmp_path}")


class TestFilesOfTheVersionBefore:
    def test_renamed_recipe_values_are_read_under_their_old_names(self, tmp_path):
        (tmp_path / "old.toml").write_text('[solver]\naverage = 0.9\nbias_rate = 3.0\nstages = "one after the other"\n')
        shown = run_frcnn("train", "--recipe", tmp_path / "old.toml", "--show-config", "--json")
        assert shown.json["solver"]["ema_decay"] == 0.9
        assert shown.json["solver"]["bias_lr_factor"] == 3.0
        assert shown.json["solver"]["stages"] == "sequential"
        assert "note: the recipe value solver.average is now called solver.ema_decay" in shown.err
        assert shown.err.count("note:") == 3

    def test_a_model_that_records_old_names(self, tmp_path):
        import json

        from safetensors.torch import load_file, save_file

        from frcnn_cli import Detector
        from frcnn_cli.detector.header import read_description

        path = tmp_path / "model.safetensors"
        detector().save(path)
        described = read_description(path, "frcnn_model")
        solver = described["config"]["recipe"].setdefault("solver", {})
        for name in ("ema_decay", "bias_lr_factor"):
            solver.pop(name, None)
        described["version"] = 3  # later ones have checksums
        solver |= {"average": 0.5, "bias_rate": 2.0, "stages": "one after the other"}
        save_file(load_file(path), path, {"frcnn_model": json.dumps(described)})
        recipe = Detector.load(path).recipe
        assert (recipe.solver.ema_decay, recipe.solver.stages) == (0.5, "sequential")


def test_documentation_of_every_public_name():
    page = (ROOT / "docs/reference/library.md").read_text()
    for name in frcnn_cli.__all__:
        assert f".{name}\n" in page, name
