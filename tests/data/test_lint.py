"""Each thing that lint knows, in a data set that is right but for it."""

import shutil

import numpy as np
import pytest
from PIL import Image as Pillow

from tests.conftest import assert_one_line_error, run_frcnn
from tests.data.test_voc import write_voc


def sound(folder):
    """Two splits, both with both classes."""
    lists = {}
    for split, shade in (("train", 40), ("val", 90)):
        keys = {f"{split}{i}": [("cat", 5, 5, 40, 40), ("dog", 20, 20, 90, 70)] for i in range(6)}
        write_voc(folder, keys)
        for i, key in enumerate(keys):
            Pillow.new("RGB", (100, 80), (shade, 20 * i, 0)).save(folder / "JPEGImages" / f"{key}.jpg")
        lists[split] = "\n".join(keys) + "\n"
    for split, text in lists.items():
        (folder / f"ImageSets/Main/{split}.txt").write_text(text)
    return folder


def linted(folder, *more):
    ran = run_frcnn("data", "lint", f"voc:{folder}", "--json", *more)
    told = ran.json
    assert (ran.code == 1) == (told["errors"] > 0)
    return [(f["level"], f["kind"]) for f in told["findings"]]


def annotate(folder, key, body, size=(100, 80)):
    write_voc(folder / "one", {key: body}, size)
    shutil.copy(folder / f"one/Annotations/{key}.xml", folder / f"Annotations/{key}.xml")
    shutil.rmtree(folder / "one")


def test_a_sound_one(tmp_path):
    assert linted(sound(tmp_path)) == []
    shown = run_frcnn("data", "lint", f"voc:{tmp_path}")
    assert (shown.code, shown.out) == (0, "12 images in 2 split(s): 0 error(s), 0 warning(s)\n")


@pytest.mark.parametrize(
    ("objects", "finding"),
    [
        ([("cat", 50, 5, 50, 40)], ("error", "no area")),
        ([("cat", 50, 5, 40, 40)], ("error", "no area")),
        ([("cat", 65535, 5, 90, 40)], ("error", "wrapped box")),
        ([("cat", 50, 5, 120, 40)], ("error", "outside")),
        ([("cat", 0, 5, 30, 40)], ("error", "outside")),
        ([("cat", 200, 5, 220, 40)], ("error", "outside")),
        ([("Cat", 5, 5, 30, 40)], ("error", "misspelt class")),
        ([("dgo", 5, 5, 30, 40)], ("error", "misspelt class")),
        (2 * [("cat", 5, 5, 30, 40)], ("error", "object twice")),
        ([], ("warning", "no objects")),
    ],
)
def test_objects(tmp_path, objects, finding):
    sound(tmp_path)
    annotate(tmp_path, "train3", objects)
    found = linted(tmp_path)
    assert found == [finding]


def test_small_objects_are_counted_against_the_smallest_proposals(tmp_path):
    sound(tmp_path)
    annotate(tmp_path, "train3", [("cat", x, 5, x + 10, 40) for x in (5, 20, 35, 50, 65)])
    assert linted(tmp_path) == [("warning", "small objects")]
    shown = run_frcnn("data", "lint", f"voc:{tmp_path}").out
    assert "of the objects are narrower than 20 px, the minimum size of proposals. Add --min-size " in shown


def test_a_slip_in_a_longer_name(tmp_path):
    sound(tmp_path)
    for split in ("train", "val"):
        for i in range(6):
            annotate(tmp_path, f"{split}{i}", [("platelets", 5, 5, 20, 40), ("platelets", 15, 5, 30, 40)])
    annotate(tmp_path, "val2", [("platlets", 5, 5, 20, 40)])
    assert ("error", "misspelt class") in linted(tmp_path)


def test_pictures_and_annotations_that_lack_each_other(tmp_path):
    sound(tmp_path)
    (tmp_path / "Annotations/train0.xml").unlink()
    (tmp_path / "JPEGImages/val0.jpg").unlink()
    (tmp_path / "Annotations/val1.xml").write_text("<annotation>")
    (tmp_path / "JPEGImages/val2.jpg").write_bytes(b"nothing")
    Pillow.new("RGB", (9, 9)).save(tmp_path / "JPEGImages/new.jpg")
    shutil.copy(tmp_path / "Annotations/val3.xml", tmp_path / "Annotations/gone.xml")
    found = linted(tmp_path)
    assert found.count(("error", "unreadable")) == 4  # no annotation, no image, no XML, no JPEG
    assert found.count(("warning", "no annotation")) == 1
    assert found.count(("warning", "no image")) == 1
    assert ("warning", "in no split") not in found


def test_a_truncated_picture(tmp_path):
    sound(tmp_path)
    path = tmp_path / "JPEGImages/train0.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (80, 100, 3)).astype(np.uint8)
    Pillow.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    assert linted(tmp_path) == [("error", "unreadable")]


def test_other_sizes_and_turned_pictures(tmp_path):
    sound(tmp_path)
    annotate(tmp_path, "train0", [("cat", 5, 5, 40, 40)], size=(50, 40))
    assert linted(tmp_path) == [("error", "other size")]
    sound(tmp_path)
    # Stored 100 x 80 and shown 80 x 100; the boxes are those of the stored one.
    exif = Pillow.Exif()
    exif[0x0112] = 6
    Pillow.new("RGB", (100, 80), (7, 7, 7)).save(tmp_path / "JPEGImages/train0.jpg", exif=exif)
    assert linted(tmp_path) == [("error", "other size"), ("error", "rotated image")]


def test_the_same_picture_in_two_splits_or_twice(tmp_path):
    sound(tmp_path)
    shutil.copy(tmp_path / "JPEGImages/train0.jpg", tmp_path / "JPEGImages/val0.jpg")
    assert linted(tmp_path) == [("error", "duplicate")]
    sound(tmp_path)
    shutil.copy(tmp_path / "JPEGImages/train0.jpg", tmp_path / "JPEGImages/train1.jpg")
    assert linted(tmp_path) == [("warning", "duplicate")]
    sound(tmp_path)
    with open(tmp_path / "ImageSets/Main/val.txt", "a") as file:
        file.write("train2\n")
    assert linted(tmp_path) == [("error", "shared image")]
    sound(tmp_path)  # trainval holds both, and is no fault
    both = "".join((tmp_path / f"ImageSets/Main/{s}.txt").read_text() for s in ("train", "val"))
    (tmp_path / "ImageSets/Main/trainval.txt").write_text(both)
    assert linted(tmp_path) == []


def test_a_class_that_a_split_lacks(tmp_path):
    sound(tmp_path)
    for i in range(6):
        annotate(tmp_path, f"val{i}", [("dog", 20, 20, 90, 70)])
    assert linted(tmp_path) == [("warning", "missing class")]


def test_proposals(tmp_path):
    sound(tmp_path)
    props = tmp_path / "p.h5"
    line = (
        "proposals",
        f"voc:{tmp_path}",
        "--split",
        "train",
        "-o",
        props,
        "--source",
        "sliding-window",
        "--workers",
        0,
    )
    assert run_frcnn(*line).code == 0
    assert linted(tmp_path, "--props", props) == []
    shutil.copy(tmp_path / "JPEGImages/train0.jpg", tmp_path / "other.jpg")
    pixels = np.full((80, 100, 3), 9, np.uint8)
    Pillow.fromarray(pixels).save(tmp_path / "JPEGImages/train0.jpg")
    assert linted(tmp_path, "--props", props) == [("error", "other image")]
    shutil.copy(tmp_path / "other.jpg", tmp_path / "JPEGImages/train0.jpg")
    write_voc(tmp_path / "one", {"extra": [("cat", 5, 5, 40, 40)]})
    for place in ("JPEGImages/extra.jpg", "Annotations/extra.xml"):
        shutil.copy(tmp_path / "one" / place, tmp_path / place)
    with open(tmp_path / "ImageSets/Main/train.txt", "a") as file:
        file.write("extra\n")
    assert linted(tmp_path, "--props", props) == [("error", "images missing")]
    nothing = tmp_path / "none.h5"
    assert run_frcnn(*line[:-5], nothing, "--source", "sliding-window", "--workers", 0, "--max-boxes", 1).code == 0


def test_unions(tmp_path):
    """Splits of one name belong together; what is wrong is told once."""
    one, two = sound(tmp_path / "one"), sound(tmp_path / "two")
    for name in ("JPEGImages/train0.jpg", "Annotations/train0.xml"):
        shutil.copy(one / name, one / name.replace("train0", "both"))
    for split in ("train", "val"):
        (one / f"ImageSets/Main/{split}.txt").open("a").write("both\n")
    (two / "Annotations/val0.xml").write_text("<broken")
    (two / "JPEGImages/train1.jpg").unlink()
    ran = run_frcnn("data", "lint", f"voc:{one}+voc:{two}", "--json").json
    kinds = [f["kind"] for f in ran["findings"]]
    assert kinds.count("unreadable") == 2
    assert kinds.count("shared image") == 1
    # Five of train's six are in both folders under one name, and five of val's.
    assert kinds.count("shared name") == 10


def test_a_list_that_names_an_image_twice(tmp_path):
    (sound(tmp_path) / "ImageSets/Main/val.txt").open("a").write("val0\n")
    assert linted(tmp_path) == [("warning", "listed twice")]


def test_a_folder_that_is_not_there(tmp_path):
    assert_one_line_error(run_frcnn("data", "lint", f"voc:{tmp_path / 'no'}"), "no is not a folder")
