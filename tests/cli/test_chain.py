"""The commands as users type them, on a small data set: every stage, its file, and that both ways agree."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from frcnn_cli.store.reader import StageFile
from tests.cli.test_docs import assert_not_imported
from tests.conftest import assert_one_line_error, run_frcnn, run_process, same_datasets

TRAINING = (
    *("--backbone", "small", "--weights", "none", "--epochs", "3", "--lr", "0.01", "--short-side", "0"),
    *("--background-iou", "0", "0.5"),
)


@pytest.fixture(scope="module")
def work(tmp_path_factory, voc):
    """Everything once: proposals, a trained run, features, scores, detections."""
    folder = tmp_path_factory.mktemp("work")
    data = f"voc:{voc}"
    for split in ("trainval", "test"):
        ran = run_frcnn("proposals", data, "--split", split, "-o", folder / f"props-{split}.h5", "--json")
        assert ran.code == 0, ran.err
    for line in (
        ("train", "--data", data, "--props", folder / "props-trainval.h5", "-o", folder / "run", *TRAINING),
        ("features", data, "--split", "test", "--model", folder / "run", "-o", folder / "feats.h5"),
        (
            *("score", folder / "feats.h5", "--props", folder / "props-test.h5", "--model", folder / "run"),
            *("-o", folder / "scores.h5"),
        ),
        ("nms", folder / "scores.h5", "-o", folder / "dets.h5"),
    ):
        ran = run_process(*line)
        assert ran.code == 0, ran.err
        assert "Traceback" not in ran.err
        assert ran.out == ""  # notes go to stderr; results, where asked for, to stdout
    return folder


def test_eval_as_table_and_json(work, voc):
    common = ("eval", work / "dets.h5", "--data", f"voc:{voc}", "--split", "test")
    shown = run_frcnn(*common)
    assert shown.code == 0
    assert re.search(r"^\s*mean\s+\d\.\d{3}", shown.out, re.M)
    by_area, by_points = run_frcnn(*common, "--json").json, run_frcnn(*common, "--metric", "voc07", "--json").json
    for told in (by_area, by_points):
        assert told["map"] == pytest.approx(np.mean([figures["ap"] for figures in told["classes"].values()]))
    shown_map = re.search(r"^\s*mean\s+(\d\.\d{3})", shown.out, re.M)[1]
    assert float(shown_map) == pytest.approx(by_area["map"], abs=0.0005)
    assert by_points["metric"] == "voc07"
    assert set(by_area["classes"]) == {"disc", "square", "star", "triangle"}


def test_detect_and_the_four_stages_give_the_same_boxes(work, voc):
    """With the rule for one image by itself: that of the paper's recipe is over the whole set."""
    out, by_image = work / "direct.h5", work / "by-image.h5"
    rule = ("--min-score", "0.05", "--per-class", "0", "--max-per-image", "100", "--per-set", "0")
    assert run_frcnn("nms", work / "scores.h5", "-o", by_image, *rule).code == 0
    ran = run_frcnn("detect", f"voc:{voc}", "--split", "test", "--model", work / "run", "-o", out, "--json")
    assert ran.code == 0, ran.err
    with StageFile(by_image) as stages, StageFile(out) as direct:
        assert stages.images == direct.images
        assert stages.row_count > 0
        for i in range(len(stages)):
            for name in ("boxes", "scores", "labels"):
                np.testing.assert_array_equal(stages[i][name], direct[i][name])
    assert sum(len(image["detections"]) for image in ran.json["images"]) == direct_count(out)


def direct_count(path):
    with StageFile(path) as file:
        return file.row_count


def test_detect_finds_the_newest_run_and_says_where_the_picture_is(work, voc, tmp_path):
    image = next((voc / "JPEGImages").iterdir())
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/mine").symlink_to(work / "run")
    no_display = {"DISPLAY": "", "WAYLAND_DISPLAY": ""}
    ran = run_frcnn("detect", image, "--show", "--min-score", "0.01", cwd=tmp_path, env=no_display)
    assert ran.code == 0, ran.err
    assert "model: runs/mine" in ran.err
    assert f"the picture is in {image.stem}-detections.jpg" in ran.err
    assert Pillow.open(tmp_path / f"{image.stem}-detections.jpg").size == Pillow.open(image).size
    by_env = run_frcnn("detect", image, cwd=tmp_path, env={"FRCNN_MODEL": str(work / "run")})
    assert by_env.code == 0
    assert "newest" not in by_env.err


def test_a_stage_without_a_model_explains_how_to_get_one(tmp_path, photo):
    ran = run_frcnn("features", photo, "-o", "f.h5", cwd=tmp_path, env={"FRCNN_MODEL": ""})
    assert_one_line_error(ran, "no model: --model and $FRCNN_MODEL are not set", "frcnn train --data")


def test_detect_writes_pictures_and_never_over_old_ones(work, voc, tmp_path):
    images = sorted((voc / "JPEGImages").iterdir())[:2]
    line = ("detect", *images, "--model", work / "run", "-o", tmp_path / "pictures", "-q")
    assert run_frcnn(*line).code == 0
    assert {p.stem for p in (tmp_path / "pictures").iterdir()} == {p.stem for p in images}
    assert_one_line_error(run_frcnn(*line), "exists already", "--force")
    assert run_frcnn(*line, "--force").code == 0


def test_the_picture_of_one_image(work, voc, tmp_path):
    first, second = sorted((voc / "JPEGImages").iterdir())[:2]
    own = Path(shutil.copy(first, tmp_path / "own.jpg"))
    model = ("--model", work / "run", "-q", "-o")
    assert run_frcnn("detect", own, *model, tmp_path / "found.png").code == 0
    with Pillow.open(tmp_path / "found.png") as found, Pillow.open(own) as shown:
        assert (found.format, found.size) == ("PNG", shown.size)
    assert_one_line_error(run_frcnn("detect", own, *model, tmp_path / "found.png"), "exists already")
    before = own.read_bytes()
    for output in (own, tmp_path):
        assert_one_line_error(run_frcnn("detect", own, *model, output, "--force"), "is also an input")
    assert own.read_bytes() == before
    ran = run_frcnn("detect", own, second, *model, tmp_path / "both.jpg")
    assert ran.code == 2
    assert "is one picture, but there are 2 images" in ran.err


def test_pictures_that_differ_in_their_ending_alone(work, tmp_path):
    for name in ("0.jpg", "0.png", "1.png"):
        Pillow.new("RGB", (70, 60), (90, 9, 9)).save(tmp_path / name)
    ran = run_frcnn("detect", tmp_path, "--model", work / "run", "-o", tmp_path / "out", "-q")
    assert ran.code == 0, ran.err
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"0.jpg.jpg", "0.png.jpg", "1.jpg"}


def test_detect_when_every_image_fails(work, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"x")
    ran = run_frcnn("detect", tmp_path / "bad.jpg", "--model", work / "run", "-o", tmp_path / "d.h5")
    assert_one_line_error(ran, "all images failed")
    assert "bad.jpg is not an image" in ran.err
    assert [p.name for p in tmp_path.iterdir()] == ["bad.jpg"]


def test_another_source_on_the_command_line(work, voc):
    image = next((voc / "JPEGImages").iterdir())
    line = ("detect", image, "--model", work / "run", "--json")
    windows = run_frcnn(*line, "--source", "sliding-window", "--set", "stride=0.5")
    assert windows.code == 0, windows.err
    assert windows.json != run_frcnn(*line).json
    assert run_frcnn(*line, "--set", "stride=0.5").code == 2


def test_long_names_are_not_cut(work, voc, tmp_path):
    deep = tmp_path / ("d" * 150) / ("e" * 150)
    deep.mkdir(parents=True)
    Pillow.open(next((voc / "JPEGImages").iterdir())).save(deep / "a.png")
    ran = run_frcnn("detect", tmp_path, "--model", work / "run", "--min-score", "0")
    assert f"{'d' * 150}/{'e' * 150}/a.png" in ran.out


def test_recall_as_table_and_json(work, voc):
    common = ("recall", work / "props-test.h5", "--data", f"voc:{voc}", "--split", "test")
    shown = run_frcnn(*common)
    assert shown.code == 0
    assert "recall 0.5" in shown.out
    lines = run_frcnn(*common, "--boxes", "1,50", "--json").json["files"][0]["recall"]
    assert [line["count"] for line in lines] == [1, 50]
    assert lines[0]["recall_50"] <= lines[1]["recall_50"]


def test_inspect_tells_of_every_kind_of_file(work):
    for name, words in (
        ("props-test.h5", "selective-search"),
        ("feats.h5", "features_id"),
        ("scores.h5", "probabilities"),
        ("dets.h5", "thresholds"),
        ("run", "selective-search"),
        ("run/model.safetensors", "stride 4"),
        ("run/state.safetensors", "training checkpoint"),
        ("run/log.jsonl", "learning_rate"),
    ):
        ran = run_frcnn("inspect", work / name)
        assert ran.code == 0, ran.err
        assert words in ran.out
        assert isinstance(run_frcnn("inspect", work / name, "--json").json, dict)


def test_the_log_of_training_is_json_lines(work):
    lines = [json.loads(line) for line in (work / "run/log.jsonl").read_text().splitlines()]
    assert lines[-1]["iteration"] == lines[-1]["total"] == 15
    assert {"loss", "foreground", "learning_rate", "images_per_second", "eta_seconds"} <= set(lines[-1])


def test_a_run_is_not_overwritten(work, voc):
    line = ("train", "--data", f"voc:{voc}", "--props", work / "props-trainval.h5", "-o", work / "run", *TRAINING)
    assert_one_line_error(run_frcnn(*line), "exists already", "--resume", "--force")


def test_a_finished_run_has_nothing_to_resume(work):
    ran = run_frcnn("train", "--resume", "-o", work / "run")
    assert ran.code == 0, ran.err
    assert "is finished" in ran.err
    changed = run_frcnn("train", "--resume", "-o", work / "run", "--lr", "0.5")
    assert changed.code == 2
    assert "solver.learning_rate 0.5 differs from the run's own 0.01" in changed.err


def test_a_folder_of_images_joins_with_the_data_set(work, voc, tmp_path):
    """Keys differ (0000.jpg, 0000); the pictures are the same."""
    props = tmp_path / "p.h5"
    assert run_frcnn("proposals", voc / "JPEGImages", "-o", props, "--workers", 0).code == 0
    by_folder, by_data = (
        run_frcnn("recall", path, "--data", f"voc:{voc}", "--split", "test", "--json").json["files"][0]["recall"]
        for path in (props, work / "props-test.h5")
    )
    assert by_folder == by_data


def test_the_number_of_workers_changes_nothing(voc, tmp_path):
    for workers in (1, 3):
        line = ("proposals", f"voc:{voc}", "--split", "test", "-o", tmp_path / f"{workers}.h5", "--workers", workers)
        assert run_frcnn(*line).code == 0
    assert same_datasets(tmp_path / "1.h5", tmp_path / "3.h5")


def test_compress(work, voc, tmp_path):
    out = tmp_path / "small.safetensors"
    data = ("--data", f"voc:{voc}", "--props", work / "props-test.h5", "--split", "test", "--json")
    ran = run_frcnn("compress", work / "run", "-o", out, "--rank", "fc6=64", *data)
    assert ran.code == 0, ran.err
    assert ran.json["ranks"] == {"fc6": 64}
    whole = run_frcnn("compress", work / "run", "-o", tmp_path / "whole.safetensors", "--rank", "fc6=256", *data)
    assert whole.json["after"]["map"] == pytest.approx(whole.json["before"]["map"], abs=1e-4)
    assert ran.json["before"]["map"] == whole.json["before"]["map"]
    detected = run_frcnn("detect", voc / "JPEGImages", "--model", out, "--json")
    assert detected.code == 0, detected.err
    again = run_frcnn("compress", out, "-o", tmp_path / "x.safetensors", "--rank", "fc7=8")
    assert_one_line_error(again, "compressed already", code=2)
    searched = run_frcnn("compress", work / "run", "-o", out, "--force", "--max-drop", "100", *data)
    assert searched.json["ranks"] == {"fc6": 16, "fc7": 16}
    table = run_frcnn("compress", work / "run", "-o", out, "--force", "--energy", "0.5")
    assert "milliseconds from conv map to scores, for 2,000 random RoIs" in table.out
    assert "fc6 3136 x 256" in table.out
    assert run_frcnn("compress", work / "run", "-o", out).code == 2
    for wrong in (
        ("--max-drop", "1"),
        ("--rank", "fc6=8", "--rank", "fc6=9"),
        ("--rank", "fc6=8", "--split", "test"),
        ("--rank", "fc6=8", "-o", "x.h5"),
        ("--rank", "fc6=8", "-o", work / "run"),
    ):
        assert run_frcnn("compress", work / "run", "-o", out, "--force", *wrong).code == 2
    assert_one_line_error(run_frcnn("compress", work / "run", "-o", out, "--force", "--energy", "1"), "lower --energy")


def test_precision_is_recorded(work, voc, tmp_path):
    feats = tmp_path / "feats.h5"
    made = run_frcnn("features", voc / "JPEGImages", "--model", work / "run", "-o", feats, "--precision", "bfloat16")
    assert made.code == 0, made.err
    assert '"precision": "bfloat16"' in run_frcnn("inspect", feats, "--json").out
    refused = run_frcnn("detect", voc / "JPEGImages", "--model", work / "run", "--precision", "float16")
    assert_one_line_error(refused, "float16 is supported on GPUs only", "bfloat16")


def test_training_the_head_alone_from_cached_maps(work, voc, tmp_path):
    data, feats, props = f"voc:{voc}", tmp_path / "feats.h5", work / "props-trainval.h5"
    backbone = ("--backbone", "small", "--weights", "none", "--short-side", "0")
    made = run_frcnn("features", data, *backbone, "--mirrored", "-o", feats, "--json")
    assert made.code == 0, made.err
    assert 0 < made.json["network_busy"] <= 1
    with StageFile(feats) as file:
        assert set(file.column_shapes) == {"maps", "mirrored", "map_size", "scale"}
    line = ("train", "--data", data, "--props", props, "--features", feats, *backbone, "--epochs", "2", "--lr", "0.01")
    ran = run_frcnn(*line, "-o", tmp_path / "run", "--json")
    assert ran.code == 0, ran.err
    detected = run_frcnn("detect", voc / "JPEGImages", "--model", tmp_path / "run", "--json")
    assert detected.code == 0, detected.err
    rounded = tmp_path / "rounded.h5"
    assert run_frcnn("features", data, *backbone, "--mirrored", "-o", rounded, "--dtype", "float32").code == 0
    changed = run_frcnn("train", "--resume", "-o", tmp_path / "run", "--features", rounded)
    assert_one_line_error(changed, "conv maps have changed")
    other = run_frcnn(*line, "--long-side", "500", "-o", tmp_path / "other")
    assert_one_line_error(other, "long side 1000, not 500", "--long-side 1000")
    forgotten = run_frcnn("train", "--data", data, "--props", props, "--features", feats, "-o", tmp_path / "other")
    assert_one_line_error(forgotten, "backbone small, not vgg16")
    plain = tmp_path / "plain.h5"
    assert run_frcnn("features", data, *backbone, "-o", plain).code == 0
    line = [plain if word == feats else word for word in line]
    assert_one_line_error(run_frcnn(*line, "-o", tmp_path / "other"), "mirrored", "--no-flip")
    assert run_frcnn(*line, "--no-flip", "-o", tmp_path / "other").code == 0


def test_features_of_a_model_or_of_a_backbone(work, voc, tmp_path):
    both = run_frcnn("features", voc, "--model", work / "run", "--backbone", "small", "-o", tmp_path / "f.h5")
    assert both.code == 2
    side = run_frcnn("features", voc, "--model", work / "run", "--short-side", "100", "-o", tmp_path / "f.h5")
    assert side.code == 2
    assert "--short-side works only with --backbone" in side.err


def test_commands_without_a_network_do_not_import_torch(work, voc):
    for line in (
        ("nms", work / "scores.h5", "-o", work / "light.h5"),
        ("eval", work / "dets.h5", "--data", f"voc:{voc}"),
        ("recall", work / "props-test.h5", "--data", f"voc:{voc}", "--split", "test"),
        ("inspect", work / "feats.h5"),
        ("export", work / "props-test.h5", "--format", "csv", "-o", work / "props.csv"),
    ):
        assert_not_imported(line, {"torch", "torchvision"})
