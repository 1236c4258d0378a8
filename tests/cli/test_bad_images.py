"""One photograph that cannot be read: each command states it, and how to continue without it."""

import json
import shutil

import pytest

from frcnn_cli.data.load import load_dataset
from frcnn_cli.detector.detector import Detector
from frcnn_cli.store.reader import StageFile
from tests.conftest import assert_one_line_error, run_frcnn, same_datasets
from tests.detector.test_model import detector

SMALL = ("--backbone", "small", "--weights", "none", "--short-side", "0", "--epochs", "1", "--background-iou", 0, 0.5)
WINDOWS = ("--source", "sliding-window", "--workers", 0)


@pytest.fixture
def damaged(voc, tmp_path):
    """A data set with one photograph of which half is missing."""
    folder = tmp_path / "data"
    shutil.copytree(voc, folder)
    first = load_dataset(f"voc:{folder}", "trainval").refs[0]
    (tmp_path / "whole").write_bytes(first.path.read_bytes())
    first.path.write_bytes(first.path.read_bytes()[: first.path.stat().st_size // 2])
    return folder, first


def test_training_without_it(damaged, tmp_path):
    folder, bad = damaged
    assert run_frcnn("proposals", f"voc:{folder}", "--split", "trainval", "-o", tmp_path / "p.h5", *WINDOWS).code == 1
    line = ("train", "--data", f"voc:{folder}", "--props", tmp_path / "p.h5", "-o", tmp_path / "run", *SMALL)
    assert_one_line_error(run_frcnn(*line), f"lacks 1 of the 10 images of voc:{folder}", bad.key, "--bad-images skip")
    assert not (tmp_path / "run").exists()
    ran = run_frcnn(*line, "--bad-images", "skip")
    assert ran.code == 0, ran.err
    assert f"warning: skipped an image that cannot be read: {bad.path}" in ran.err
    assert "9 images, without 1 that cannot be read" in ran.err
    told = json.loads(run_frcnn("inspect", tmp_path / "run", "--json").out)
    assert told["data"]["left_out"] == [bad.key]
    resumed = run_frcnn("train", "--resume", "-o", tmp_path / "run")
    assert "is finished" in resumed.err, resumed.err


def test_validation_without_it(damaged, tmp_path):
    folder, _ = damaged
    image = load_dataset(f"voc:{folder}", "test").refs[0]
    image.path.write_bytes(image.path.read_bytes()[:300])
    for split in ("trainval", "test"):
        run_frcnn("proposals", f"voc:{folder}", "--split", split, "-o", tmp_path / f"{split}.h5", *WINDOWS)
    line = ("train", "--data", f"voc:{folder}", "--props", tmp_path / "trainval.h5", "-o", tmp_path / "run", *SMALL)
    validated = ("--validate-on", "test", "--val-props", tmp_path / "test.h5", "--bad-images", "skip")
    ran = run_frcnn(*line, *validated)
    assert ran.code == 0, ran.err
    assert f"skipped an image that cannot be read: {image.path}" in ran.err


def test_an_image_that_can_be_read_is_not_skipped(voc, tmp_path):
    """Proposals of another split lack images for another reason."""
    assert run_frcnn("proposals", f"voc:{voc}", "--split", "test", "-o", tmp_path / "p.h5", *WINDOWS).code == 0
    line = ("train", "--data", f"voc:{voc}", "--split", "trainval", "--props", tmp_path / "p.h5", "-o", tmp_path / "r")
    assert_one_line_error(run_frcnn(*line, *SMALL, "--bad-images", "skip"), "holds none of the 10 images")


@pytest.mark.parametrize("layout", ["voc", "coco"])
def test_converting_without_it(damaged, tmp_path, layout):
    folder, bad = damaged
    line = ("data", "convert", f"voc:{folder}", "--to", layout, "-o", tmp_path / "out")
    assert_one_line_error(run_frcnn(*line), str(bad.path), "--bad-images skip")
    assert not (tmp_path / "out").exists()
    ran = run_frcnn(*line, "--bad-images", "skip")
    assert ran.code == 0, ran.err
    assert f"skipped an image that cannot be read: {bad.path}" in ran.err
    assert "trainval: 9 images" in ran.out


def test_converting_a_csv_without_it(damaged, tmp_path):
    folder, bad = damaged
    table = tmp_path / "labels.csv"
    keys = [ref.path.name for ref in load_dataset(f"voc:{folder}", "trainval").refs]
    table.write_text("image,class,xmin,ymin,xmax,ymax\n" + "".join(f"{key},cat,1,2,30,40\n" for key in keys))
    line = ("data", "convert", table, "--images", folder / "JPEGImages", "--to", "coco", "-o", tmp_path / "out")
    assert_one_line_error(run_frcnn(*line), str(bad.path), "--bad-images skip")
    ran = run_frcnn(*line, "--bad-images", "skip")
    assert ran.code == 0, ran.err
    assert f"skipped an image that cannot be read: {bad.path}" in ran.err
    assert "9 images, 9 objects" in ran.out


def test_a_folder_is_converted_whole_or_not_at_all(voc, tmp_path, monkeypatch):
    from frcnn_cli.core.errors import FrcnnError
    from frcnn_cli.data.formats import voc as module

    written = []

    def full(*arguments):
        written.append(arguments)
        if len(written) > 5:
            raise FrcnnError("no space left to write", "Free some disk space")
        return whole(*arguments)

    whole = module.write_atomic
    line = ("data", "convert", f"voc:{voc}", "--to", "voc", "-o", tmp_path / "deep/out")
    with monkeypatch.context() as patched:
        patched.setattr(module, "write_atomic", full)
        assert_one_line_error(run_frcnn(*line), "no space left")
    assert list((tmp_path / "deep").iterdir()) == []
    assert run_frcnn(*line).code == 0
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


def test_detections_are_completed_after_it_was_repaired(damaged, tmp_path):
    folder, bad = damaged
    detector().save(tmp_path / "model.safetensors")
    line = ("detect", f"voc:{folder}", "--split", "trainval", "--model", tmp_path / "model.safetensors", "-o")
    windows = ("--source", "sliding-window")
    ran = run_frcnn(*line, tmp_path / "d.h5", *windows)
    assert ran.code == 1
    assert bad.path.name in ran.err
    with StageFile(tmp_path / "d.h5") as file:
        assert len(file) == 9
    bad.path.write_bytes((tmp_path / "whole").read_bytes())
    ran = run_frcnn(*line, tmp_path / "d.h5", *windows)
    assert ran.code == 0, ran.err
    assert run_frcnn(*line, tmp_path / "whole.h5", *windows).code == 0
    assert same_datasets(tmp_path / "d.h5", tmp_path / "whole.h5")
    assert_one_line_error(run_frcnn(*line, tmp_path / "d.h5", *windows), "exists already", "--force")


def test_boxes_clipped_to_the_size_of_their_image_are_counted(damaged, tmp_path):
    """The annotation states a larger size than the image has."""
    folder, _ = damaged
    image = load_dataset(f"voc:{folder}", "test").refs[1]
    annotation = folder / "Annotations" / f"{image.key}.xml"
    text = annotation.read_text()
    box = "<xmin>90</xmin><ymin>70</ymin><xmax>150</xmax><ymax>85</ymax>"
    added = f"<object><name>disc</name><bndbox>{box}</bndbox></object></annotation>"
    size = "<size><width>200</width><height>200</height><depth>3</depth></size>"
    text = text[: text.index("<size>")] + size + text[text.index("</size>") + 7 :].replace("</annotation>", added)
    annotation.write_text(text)
    assert run_frcnn("proposals", f"voc:{folder}", "--split", "test", "-o", tmp_path / "p.h5", *WINDOWS).code == 0
    ran = run_frcnn("recall", tmp_path / "p.h5", "--data", f"voc:{folder}", "--split", "test", "--bad-boxes", "fix")
    assert_one_line_error(ran, f"{image.key}: annotated as 200 x 200, but the image is")
    keep = ("--bad-boxes", "fix", "--size-mismatch", "keep")
    ran = run_frcnn("recall", tmp_path / "p.h5", "--data", f"voc:{folder}", "--split", "test", *keep)
    assert ran.code == 0, ran.err
    assert f"clipped 1 box(es) to the size of their image, e.g. in {image.key}" in ran.err


def test_an_untrained_detector_keeps_the_sizes_of_images_of_its_recipe():
    from frcnn_cli.recipes.recipe import Recipe

    recipe = Recipe().changed({"network.backbone": "small", "images.test_short_sides": [64, 96]})
    made = Detector.untrained(recipe, "none", "cpu")
    assert [transform.short_side for transform in made.transforms] == [64, 96]
