"""frcnn import and frcnn export, as commands."""

import json

import numpy as np
import pytest

from frcnn_cli.store.reader import StageFile
from tests.conftest import assert_one_line_error, run_frcnn


@pytest.fixture(scope="module")
def props(tmp_path_factory, voc):
    path = tmp_path_factory.mktemp("props") / "p.h5"
    line = ("proposals", f"voc:{voc}", "--split", "test", "-o", path, "--workers", 0)
    assert run_frcnn(*line).code == 0
    return path


def boxes_of(path):
    with StageFile(path) as file:
        return {image.key: arrays["boxes"].tolist() for image, arrays in file}


@pytest.mark.parametrize(
    ("form", "ending"), [("detectron2", "pkl"), ("mmdet", "pkl"), ("mat", "mat"), ("coco", "json"), ("csv", "csv")]
)
def test_out_and_back(tmp_path, voc, props, form, ending):
    file, back = tmp_path / f"b.{ending}", tmp_path / "back.h5"
    assert run_frcnn("export", props, "--format", form, "-o", file).code == 0
    assert_one_line_error(run_frcnn("export", props, "--format", form, "-o", file), "exists already")
    ran = run_frcnn("import", file, "--data", f"voc:{voc}", "--split", "test", "-o", back, "--json")
    assert ran.code == 0, ran.err
    assert boxes_of(back) == boxes_of(props)
    told = json.loads(ran.out)
    assert told["images"] == 6
    assert told["convention"]["order"] == {"mat": "yxyx", "coco": "xywh"}.get(form, "xyxy")
    assert "assumed" not in told["because"].values()
    assert "read as" in ran.err
    # A model trained on these boxes can ask for them again, through the source that is recorded.
    source = json.loads(run_frcnn("inspect", back, "--json").out)["provenance"]["source"]
    again = tmp_path / "again.h5"
    line = ["proposals", f"voc:{voc}", "--split", "test", "-o", again, "--source", "file", "--min-size", 0]
    for key, value in source["options"].items():
        line += ["--set", f"{key}={value}"]
    assert run_frcnn(*line, "--workers", 0, "--max-boxes", 100_000).code == 0
    assert boxes_of(again) == boxes_of(props)


def test_our_own_file_comes_in_as_it_is(tmp_path, voc, props):
    back = tmp_path / "back.h5"
    assert run_frcnn("import", props, "--data", f"voc:{voc}", "--split", "test", "-o", back).code == 0
    assert boxes_of(back) == boxes_of(props)
    ran = run_frcnn("import", props, "--data", f"voc:{voc}", "--split", "trainval", "-o", tmp_path / "x.h5")
    assert_one_line_error(ran, "none of its 6 entries")


def test_a_path_of_images_will_do(tmp_path, voc):
    keys = sorted(path.name for path in (voc / "JPEGImages").iterdir())
    file = tmp_path / "b.json"
    file.write_text(json.dumps({key: [[0, 2, 30, 40], [3, 3, 60, 50]] for key in keys}))
    ran = run_frcnn("import", file, "--data", voc / "JPEGImages", "-o", tmp_path / "p.h5")
    assert ran.code == 0, ran.err
    assert boxes_of(tmp_path / "p.h5") == {key: [[0, 2, 30, 40], [3, 3, 60, 50]] for key in keys}
    stated = ("--order", "xyxy", "--base", 0, "--absolute", "--end", "inside", "--force")
    assert run_frcnn("import", file, "--data", voc / "JPEGImages", "-o", tmp_path / "p.h5", *stated).code == 0
    assert boxes_of(tmp_path / "p.h5") == {key: [[0, 2, 31, 41], [3, 3, 61, 51]] for key in keys}


def test_bad_boxes_and_absent_images(tmp_path, voc):
    file, out = tmp_path / "b.npz", tmp_path / "p.h5"
    keys = [path.stem for path in sorted((voc / "JPEGImages").iterdir())]
    np.savez(file, **{key: [[0, 0, 5000, 20], [1, 1, 9, 9]] for key in keys[:-1]}, stranger=[[0, 0, 1, 1]])
    line = ("import", file, "--data", voc / "JPEGImages", "-o", out, "--order", "xyxy", "--end", "beyond")
    ran = run_frcnn(*line)
    assert_one_line_error(ran, "no boxes for 1 of the 16 images", "--without empty")
    assert "1 entries belong to none of the images, e.g. 'stranger'" in ran.err
    assert_one_line_error(run_frcnn(*line, "--without", "empty"), "15 outside the image", "--on-bad")
    assert not out.exists()
    ran = run_frcnn(*line, "--without", "empty", "--on-bad", "drop")
    assert ran.code == 0
    assert "15 outside the image" in ran.err
    assert "0 clipped to the image, 15 dropped" in ran.err
    assert sorted(map(len, boxes_of(out).values())) == [0] + [1] * 15
    assert run_frcnn(*line, "--without", "empty", "--on-bad", "clip", "--force").code == 0
    assert sorted(map(len, boxes_of(out).values())) == [0] + [2] * 15


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (("import", "nowhere.mat"), "nowhere.mat"),
        (("import", "b.xls"), "does not end in"),
    ],
)
def test_a_file_that_will_not_do(tmp_path, monkeypatch, voc, line, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.xls").touch()
    assert_one_line_error(run_frcnn(*line, "--data", voc / "JPEGImages", "-o", "p.h5"), words)


def test_export_wants_the_right_ending(tmp_path, props):
    ran = run_frcnn("export", props, "--format", "mat", "-o", tmp_path / "b.csv")
    assert ran.code == 2
    assert "files of the format mat end in .mat" in ran.err
