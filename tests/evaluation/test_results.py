"""The devkit's result files and COCO's, written and read."""

import json

import numpy as np
import pytest

from frcnn_cli.core.annotations import Detections
from frcnn_cli.core.errors import FileFormatError
from frcnn_cli.evaluation.results import coco_results, read_coco_results, read_voc_results, voc_lines

CLASSES = ("cat", "dog [big]", "cow")
FOUND = {
    "b": Detections(np.array([[0, 0, 10, 20], [4.5, 5, 30.2, 40]]), np.array([0.75, 0.5]), np.array([1, 0])),
    "a b": Detections(np.array([[1, 2, 3, 4]]), np.array([0.25]), np.array([0])),
}


def write_voc(folder, split="test"):
    for name, text in voc_lines(FOUND, CLASSES).items():
        (folder / f"comp4_det_{split}_{name}.txt").write_text(text)


def test_the_devkits_lines():
    lines = voc_lines(FOUND, CLASSES)
    assert lines["cat"] == "a b 0.250000 2.0 3.0 3.0 4.0\nb 0.500000 5.5 6.0 30.2 40.0\n"
    assert lines["dog [big]"] == "b 0.750000 1.0 1.0 10.0 20.0\n"
    assert lines["cow"] == ""


def test_what_is_written_is_read(tmp_path):
    write_voc(tmp_path)
    again = read_voc_results(tmp_path, CLASSES, "test")
    assert set(again) == set(FOUND)
    for key, found in FOUND.items():
        np.testing.assert_allclose(again[key].boxes, found.boxes, atol=0.05)
        np.testing.assert_allclose(again[key].scores, found.scores, atol=1e-6)
        assert again[key].labels.tolist() == found.labels.tolist()


def test_cocos_results(tmp_path):
    ids = {"a b": 7, "b": 9}
    results = coco_results(FOUND, ids, [5, 90, 3])
    assert results[0] == {"image_id": 9, "category_id": 90, "bbox": [0, 0, 10, 20], "score": 0.75}
    (tmp_path / "r.json").write_text(json.dumps(results))
    again = read_coco_results(tmp_path / "r.json", {7: "a b", 9: "b"}, {5: 0, 90: 1, 3: 2})
    for key, found in FOUND.items():
        np.testing.assert_allclose(again[key].boxes, found.boxes, atol=1e-5)
        assert again[key].labels.tolist() == found.labels.tolist()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a 0.5 1 2 3", "line 1 is not a detection"),
        ("0.5 1 2 3 4", "line 1 is not a detection"),
        ("a 0.5 1 2 3 1e300", "line 1 is not a detection"),
        ("a 0.5 1 2 3 x", "line 1 is not a detection"),
        ("a nan 1 2 3 4", "line 1 is not a detection"),
        ("\xff", "is not UTF-8"),
    ],
)
def test_voc_files_that_are_none(tmp_path, line, words):
    (tmp_path / "comp4_det_test_cat.txt").write_bytes(line.encode("latin-1"))
    with pytest.raises(FileFormatError, match=words):
        read_voc_results(tmp_path, CLASSES, "test")


def test_folders_without_results(tmp_path):
    with pytest.raises(FileFormatError, match="comp4_det_test_cat.txt"):
        read_voc_results(tmp_path, CLASSES, "test")
    write_voc(tmp_path, "val")
    with pytest.raises(FileFormatError, match="no results of any class"):
        read_voc_results(tmp_path, CLASSES, "test")
    write_voc(tmp_path, "test")
    (tmp_path / "comp3_det_test_cat.txt").write_text("")
    with pytest.raises(FileFormatError, match="Keep one of them"):
        read_voc_results(tmp_path, CLASSES, "test")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("{}", "not a list of results"),
        ("[1]", "result 0 is not complete"),
        ('[{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}]', "image_id '1', which the data"),
        ('[{"image_id": 7, "category_id": 5, "bbox": [0, 0, 1], "score": 1}]', "result 0 is not complete"),
        ('[{"image_id": 7, "category_id": 5, "bbox": [0, 0, 1, NaN], "score": 1}]', "not finite"),
        ('[{"image_id": 7, "category_id": 5, "bbox": [0, 0, 1, 1e300], "score": 1}]', "is huge or not finite"),
        (
            '[{"image_id": 7, "category_id": 5, "bbox": [0, 0, 1, 1' + 400 * "0" + '], "score": 1}]',
            "result 0 is not complete",
        ),
        (
            '[{"image_id": [], "category_id": 5, "bbox": [0, 0, 1, 1], "score": 1}]',
            "an ID of the data set is a number",
        ),
    ],
)
def test_coco_files_that_are_none(tmp_path, text, words):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(FileFormatError, match=words):
        read_coco_results(tmp_path / "r.json", {7: "a"}, {5: 0})


def test_a_class_without_a_file_is_not_a_class_without_detections(tmp_path):
    (tmp_path / "comp4_det_test_cat.txt").write_text("a 0.9 1 1 10 10\n")
    with pytest.raises(FileFormatError, match="holds no results of dog, horse, pig and 1 more.*empty file"):
        read_voc_results(tmp_path, ["cat", "dog", "horse", "pig", "cow"], "test")
    for name in ("dog", "horse"):
        (tmp_path / f"comp4_det_test_{name}.txt").write_text("")
    assert list(read_voc_results(tmp_path, ["cat", "dog", "horse"], "test")) == ["a"]
