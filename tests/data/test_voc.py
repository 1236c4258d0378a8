"""VOC layout: coordinates, classes, and what people really write into annotations."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as Pillow

from frcnn_cli.core.errors import DataError
from frcnn_cli.core.image import ImageRecord
from frcnn_cli.data.formats.voc import read_voc
from frcnn_cli.data.load import load_dataset, load_image_refs


def write_voc(folder, annotations, size=(100, 80)):
    """annotations: key -> list of (name, xmin, ymin, xmax, ymax[, difficult])."""
    for sub in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    for key, objects in annotations.items():
        Pillow.new("RGB", size).save(folder / "JPEGImages" / f"{key}.jpg")
        body = "".join(
            f"<object><name>{name}</name><difficult>{difficult[0] if difficult else 0}</difficult><bndbox>"
            f"<xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
            for name, a, b, c, d, *difficult in objects
        )
        xml = f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{body}</annotation>"
        (folder / "Annotations" / f"{key}.xml").write_text(xml)
    (folder / "ImageSets/Main/train.txt").write_text("\n".join(annotations) + "\n")
    return folder


def test_corners_become_continuous_and_labels_count_in_sorted_classes(tmp_path):
    write_voc(tmp_path, {"b": [("dog", 1, 1, 100, 80), ("cat", 11, 21, 30, 60, 1)], "a": []})
    data = read_voc(tmp_path, "train")
    assert data.classes == ("cat", "dog")
    assert [sample.ref.key for sample in data.samples] == ["a", "b"]
    assert len(data.samples[0].truth) == 0
    truth = data.samples[1].truth
    assert truth.boxes.tolist() == [[0, 0, 100, 80], [10, 20, 30, 60]]
    assert truth.labels.tolist() == [1, 0]
    assert truth.difficult.tolist() == [False, True]


def test_classes_come_from_all_annotations_not_from_the_split(tmp_path):
    write_voc(tmp_path, {"a": [("cat", 1, 1, 9, 9)], "b": [("ant", 1, 1, 9, 9)]})
    (tmp_path / "ImageSets/Main/train.txt").write_text("a\n")
    data = read_voc(tmp_path, "train")
    assert (len(data), data.classes) == (1, ("ant", "cat"))


@pytest.mark.parametrize(
    "corners", [(50, 10, 50, 20), (60, 10, 50, 20), (10, 30, 20, 10), (200, 1, 210, 9), (-20, 5, 0, 9)]
)
def test_a_box_without_area_stops_or_is_left_out(tmp_path, corners):
    write_voc(tmp_path, {"a": [("cat", *corners), ("cat", 1, 1, 9, 9)]})
    with pytest.raises(DataError, match=r"a\.xml: cat .* has no area.*--bad-boxes fix"):
        read_voc(tmp_path, "train")
    data = read_voc(tmp_path, "train", "fix")
    assert data.samples[0].truth.boxes.tolist() == [[0, 0, 9, 9]]
    assert "dropped 1 box" in data.notes[0]


@pytest.mark.parametrize(("corners", "fixed"), [((0, 5, 20, 30), [0, 4, 20, 30]), ((5, 5, 120, 30), [4, 4, 100, 30])])
def test_a_box_outside_stops_or_is_cut(tmp_path, corners, fixed):
    write_voc(tmp_path, {"a": [("cat", *corners)]})
    with pytest.raises(DataError, match="reaches outside its image"):
        read_voc(tmp_path, "train")
    data = read_voc(tmp_path, "train", "fix")
    assert data.samples[0].truth.boxes.tolist() == [fixed]
    assert "clipped 1 box" in data.notes[0]


def test_boxes_are_held_against_the_real_picture(tmp_path):
    write_voc(tmp_path, {"a": [("cat", 1, 1, 90, 90), ("cat", 60, 60, 90, 90)]}, size=(100, 100))
    data = replace(read_voc(tmp_path, "train"), size_mismatch="keep")
    small = [ImageRecord("a", 50, 50, "")]
    with pytest.raises(DataError, match="a: the box 0 0 90 90 reaches outside its image of 50 x 50"):
        data.within(small, "error")
    assert data.within(small, "fix").samples[0].truth.boxes.tolist() == [[0, 0, 50, 50]]
    assert data.within([ImageRecord("a", 100, 100, "")], "error").samples[0].truth.boxes.tolist() == [
        [0, 0, 90, 90],
        [59, 59, 90, 90],
    ]


def test_split_files_with_a_mark_or_not_utf8(tmp_path):
    write_voc(tmp_path, {"a": [("cat", 1, 1, 9, 9)]})
    path = tmp_path / "ImageSets/Main/train.txt"
    path.write_bytes(b"\xef\xbb\xbfa\n")
    assert len(read_voc(tmp_path, "train")) == 1
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(DataError, match="not UTF-8"):
        read_voc(tmp_path, "train")


def test_fractions_are_kept(tmp_path):
    write_voc(tmp_path, {"a": [("cat", 1.5, 2.25, 10.5, 20)]})
    assert read_voc(tmp_path, "train").samples[0].truth.boxes.tolist() == [[0.5, 1.25, 10.5, 20]]


@pytest.mark.parametrize("value", ["nan", "inf", "", "ten", "1e400"])
def test_corners_that_are_no_numbers_are_refused(tmp_path, value):
    write_voc(tmp_path, {"a": [("cat", value, 1, 9, 9)]})
    with pytest.raises(DataError, match=r"a\.xml: cat"):
        read_voc(tmp_path, "train", "fix")


def test_what_is_missing_is_named(tmp_path):
    write_voc(tmp_path, {"a": [("cat", 1, 1, 9, 9)], "b": []})
    (tmp_path / "Annotations/b.xml").unlink()
    with pytest.raises(DataError, match=r"b\.xml is missing: image 'b' has no annotation"):
        read_voc(tmp_path, "train")
    assert [ref.key for ref in load_image_refs(f"voc:{tmp_path}", "train")] == ["a", "b"]
    (tmp_path / "JPEGImages/b.jpg").unlink()
    with pytest.raises(DataError, match="no image for 'b'"):
        read_voc(tmp_path, "train")
    with pytest.raises(DataError, match="no split 'val'.*It has: train"):
        read_voc(tmp_path, "val")
    with pytest.raises(DataError, match="is not a folder"):
        read_voc(tmp_path / "none", "train")


BOMB = """<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<annotation><object><name>&b;</name></object></annotation>"""
THIEF = """<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/hostname">]><annotation><object><name>&f;</name></object></annotation>"""


@pytest.mark.parametrize("xml", [BOMB, THIEF, "", "<annotation>", "\x00\x01", "<a/>" * 3])
def test_hostile_and_broken_xml_ends_in_one_line(tmp_path, xml):
    write_voc(tmp_path, {"a": [("cat", 1, 1, 9, 9)]})
    (tmp_path / "Annotations/a.xml").write_text(xml)
    with pytest.raises(DataError, match=r"a\.xml is not XML that can be read"):
        read_voc(tmp_path, "train")


def test_voc_alone_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FRCNN_DATA", raising=False)
    with pytest.raises(DataError, match="looked in data, data/VOCdevkit"):
        load_dataset("voc", "train")
    write_voc(tmp_path / "data/VOCdevkit/VOC2007", {"a": [("cat", 1, 1, 9, 9)]})
    assert load_dataset("voc", "train").name == "VOC2007"
    write_voc(tmp_path / "else/where", {"a": [("ox", 1, 1, 9, 9)]})
    monkeypatch.setenv("FRCNN_DATA", str(tmp_path / "else/where"))
    assert load_dataset("voc", "train").classes == ("ox",)


def test_restricting_classes(tmp_path):
    write_voc(tmp_path, {"a": [("cat", 1, 1, 9, 9), ("dog", 2, 2, 8, 8), ("ant", 3, 3, 7, 7)]})
    data = read_voc(tmp_path, "train").with_classes(["dog", "ant"])
    assert data.classes == ("dog", "ant")
    assert data.samples[0].truth.labels.tolist() == [0, 1]
    with pytest.raises(DataError, match="'cow'"):
        data.with_classes(["cow"])


def test_bccd_as_found_in_the_wild(shared_data):
    data = load_dataset(f"voc:{shared_data / 'bccd'}", "trainval", "fix")
    assert data.classes == ("Platelets", "RBC", "WBC")
    assert len(data) == 292
    assert "dropped 2 box(es) without area" in data.notes[0]
    np.testing.assert_array_equal(data.samples[0].truth.boxes[0], [259, 176, 491, 376])
