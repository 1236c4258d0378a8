"""COCO layout, and what people really write into it."""

import json

import numpy as np
import pytest
from PIL import Image as Pillow

from frcnn_cli.core.errors import DataError
from frcnn_cli.data.formats.coco import read_coco_labels
from frcnn_cli.data.load import load_dataset, load_image_refs, splits_of
from frcnn_cli.data.spec import is_dataset_spec, parts
from tests.data.test_voc import write_voc


def content():
    """Two images; categories 3 and 90; a crowd; an image without objects."""
    return {
        "images": [
            {"id": 7, "file_name": "a.jpg", "width": 100, "height": 80},
            {"id": 42, "file_name": "sub/b.jpg", "width": 100, "height": 80},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 90, "bbox": [1.5, 2, 30, 40], "area": 600.5, "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 3, "bbox": [0, 0, 100, 80], "area": 8000, "iscrowd": 1},
        ],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 3, "name": "car"}],
    }


def write(folder, values):
    for image in ("a.jpg", "sub/b.jpg"):
        path = folder / "images" / image
        path.parent.mkdir(parents=True, exist_ok=True)
        Pillow.new("RGB", (100, 80)).save(path)
    path = folder / "instances_val.json"
    path.write_text(values if isinstance(values, str) else json.dumps(values))
    return f"coco:{path}:{folder / 'images'}"


def spec_parts(spec):
    return parts(spec)[0].coco


def test_what_is_there_is_read(tmp_path):
    spec = write(tmp_path, content())
    data = load_dataset(spec, "whatever")
    assert (data.split, data.classes) == ("val", ("car", "toothbrush"))
    assert [sample.ref.key for sample in data.samples] == ["a.jpg", "sub/b.jpg"]
    truth = data.samples[0].truth
    assert truth.boxes.tolist() == [[1.5, 2, 31.5, 42], [0, 0, 100, 80]]
    assert truth.labels.tolist() == [1, 0]
    assert truth.areas.tolist() == [600.5, 8000]
    assert truth.crowd.tolist() == truth.difficult.tolist() == [False, True]
    assert len(data.samples[1].truth) == 0
    assert data.image_ids == {7: "a.jpg", 42: "sub/b.jpg"}
    assert data.category_ids == {90: 1, 3: 0}
    assert [ref.key for ref in load_image_refs(spec, "x")] == ["a.jpg", "sub/b.jpg"]
    assert splits_of(spec) == ["val"]


def test_marks_and_areas_stay_through_everything(tmp_path):
    data = load_dataset(write(tmp_path, content()), "val").with_classes(["toothbrush"])
    truth = data.samples[0].truth
    assert (truth.areas.tolist(), truth.crowd.tolist(), truth.labels.tolist()) == ([600.5], [False], [0])
    assert data.category_ids == {90: 0}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.pop("images"), "no list of images"),
        (lambda c: c.update(annotations={}), "no list of annotations"),
        (lambda c: c.update(categories=[]), "has no categories"),
        (lambda c: c.update(images=[], annotations=[]), "lists no images"),
        (lambda c: c["images"].append(3), "entry 2 of images is not an object"),
        (lambda c: c["images"][0].pop("id"), "entry 0 of images has no id"),
        (lambda c: c["images"][0].update(id=True), "entry 0 of images has 'True' as id"),
        (lambda c: c["images"][0].update(id=42), "two images have the id 42"),
        (lambda c: c["images"][0].update(file_name="sub/b.jpg"), "two images have the same file"),
        (
            lambda c: c["images"][0].update(file_name="none.jpg"),
            "1 of the 2 images that .* e.g. 'none.jpg'",
        ),
        (lambda c: c["categories"][0].update(id=3), "the categories 'toothbrush' and 'car' both have the id 3"),
        (lambda c: c["annotations"][0].update(image_id=8), "annotation 0 belongs to image 8, which does not exist"),
        (lambda c: c["annotations"][0].update(category_id=4), "annotation 0 belongs to category 4"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3]), "annotation 0 does not consist of numbers"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3, "x"]), "annotation 0 does not consist of numbers"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3, float("nan")]), "not finite"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 0, 5]), "toothbrush 1 2 0 5 has no area.*--bad-boxes fix"),
        (lambda c: c["annotations"][0].update(bbox=[90, 2, 20, 5]), "reaches outside its image"),
    ],
)
def test_what_is_not_right_is_said(tmp_path, change, words):
    values = content()
    change(values)
    with pytest.raises(DataError, match=words):
        load_dataset(write(tmp_path, values), "val")


def test_sizes_that_are_none_are_not_told(tmp_path):
    for size in (10**400, -3, "100", None, float("inf")):
        values = content()
        values["images"][0]["width"] = size
        labels = read_coco_labels(*spec_parts(write(tmp_path, values)))
        assert [image.size for image in labels.images] == [None, (100, 80)]


def test_json_that_memory_cannot_hold(tmp_path, monkeypatch):
    from frcnn_cli.system import untrusted

    spec = write(tmp_path, {**content(), "images": [{}] * 100_000})
    monkeypatch.setattr(untrusted, "system_memory", lambda: (10_000_000, 20_000_000))
    with pytest.raises(DataError, match="would take about 0.0 GB of memory"):
        load_dataset(spec, "val")
    monkeypatch.setattr(untrusted, "system_memory", lambda: None)
    with pytest.raises(DataError, match="entry 0 of images has no id"):
        load_dataset(spec, "val")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[]", "3"])
def test_files_that_are_no_instances(tmp_path, text):
    with pytest.raises(DataError):
        load_dataset(write(tmp_path, text), "val")


def test_places_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match="is not a folder"):
        read_coco_labels(tmp_path / write(tmp_path, content()).split(":")[1], tmp_path / "none")
    for spec, words in (("coco", "a data set"), ("coco:", "a data set"), ("coco:x.json", "the folder of its images")):
        with pytest.raises(DataError, match=f"does not name {words}"):
            load_dataset(spec, "val")


class TestNames:
    def test_a_union_takes_the_classes_of_both(self, tmp_path):
        coco = write(tmp_path / "c", content())
        write_voc(tmp_path / "v", {"x": [("car", 1, 1, 9, 9), ("ant", 1, 1, 9, 9)]})
        data = load_dataset(f"voc:{tmp_path / 'v'}@train+{coco}", "trainval")
        assert data.classes == ("ant", "car", "toothbrush")
        assert [sample.ref.key for sample in data.samples] == ["a.jpg", "sub/b.jpg", "x"]
        assert data.samples[0].truth.labels.tolist() == [2, 1]
        assert data.samples[2].truth.labels.tolist() == [1, 0]
        assert data.split == "train+val"
        with pytest.raises(DataError, match="two data sets have an image 'x'"):
            load_dataset(f"voc:{tmp_path / 'v'}+voc:{tmp_path / 'v'}", "train")

    def test_years(self, tmp_path, monkeypatch):
        for year, name in (("VOC2007", "ox"), ("VOC2012", "cow")):
            write_voc(tmp_path / "VOCdevkit" / year, {year: [(name, 1, 1, 9, 9)]})
        monkeypatch.setenv("FRCNN_DATA", str(tmp_path))
        assert load_dataset("voc2012", "train").classes == ("cow",)
        data = load_dataset("voc2007+voc2012", "train")
        assert (len(data), data.classes, data.name) == (2, ("cow", "ox"), "VOC2007+VOC2012")
        assert load_dataset(f"voc2007:{tmp_path}", "train").classes == ("ox",)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("voc", [("voc", "", None)]),
            ("voc:a/b", [("voc", "a/b", None)]),
            ("voc2007@trainval+voc2012@test", [("voc2007", "", "trainval"), ("voc2012", "", "test")]),
            ("voc:a+b", [("voc", "a+b", None)]),
            ("voc:a+voc:b@val", [("voc", "a", None), ("voc", "b", "val")]),
            ("coco:C:/x.json:y", [("coco", "C:/x.json:y", None)]),
        ],
    )
    def test_parts(self, text, expected):
        assert [(part.kind, part.where, part.split) for part in parts(text)] == expected

    def test_an_at_in_a_path_that_is_there(self, tmp_path):
        (tmp_path / "me@home").mkdir()
        (part,) = parts(f"voc:{tmp_path}/me@home")
        assert (part.where, part.split) == (f"{tmp_path}/me@home", None)

    def test_what_is_a_data_set(self):
        assert all(map(is_dataset_spec, ("voc", "voc:x", "voc2007", "coco:a:b", "voc@val", "voc+voc2012")))
        assert not any(map(is_dataset_spec, ("vocabulary", "x.jpg", "cocoa", "./voc")))


def test_crowds_are_not_learnt_from(tmp_path):
    from frcnn_cli.recipes.recipe import Recipe
    from frcnn_cli.training.batches import ProposedSample, trainable

    sample = load_dataset(write(tmp_path, content()), "val").samples[0]
    image = ProposedSample(sample.ref, sample.truth, np.zeros((0, 4), np.float32))
    assert trainable([image], Recipe())[0].truth.labels.tolist() == [1]


def test_proposals_on_crowds_and_ignored_objects_are_not_background():
    from frcnn_cli.core.annotations import GroundTruth
    from frcnn_cli.recipes.recipe import Recipe
    from frcnn_cli.training.batches import ProposedSample, trainable

    crowd, difficult, wanted = [0, 0, 100, 100], [200, 0, 300, 100], [80, 0, 120, 40]
    marks = np.array([[True, True, False], [True, False, False]])  # difficult, crowd
    truth = GroundTruth(np.array([crowd, difficult, wanted], np.float32), np.zeros(3, int), *marks)
    inside, half, beside = [10, 10, 30, 30], [70, 60, 130, 90], [95, 60, 155, 90]
    proposals = np.array([inside, half, beside, wanted, [210, 10, 230, 30]], np.float32)
    image = ProposedSample(None, truth, proposals)
    assert trainable([image], Recipe())[0].proposals.tolist() == [beside, wanted, [210, 10, 230, 30]]
    without = Recipe().changed({"sampling.difficult": False})
    assert trainable([image], without)[0].proposals.tolist() == [beside, wanted]
