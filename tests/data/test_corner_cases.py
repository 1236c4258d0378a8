"""Corner cases of labels: several files of one kind, names that contradict, splits that overlap, files that lie."""

import json
import math
from contextlib import suppress

import numpy as np
import pytest

from frcnn_cli.core.errors import DataError, FrcnnError
from frcnn_cli.data.convert import convert_labels
from frcnn_cli.data.layouts import read_layout
from frcnn_cli.data.lint import lint_dataset
from frcnn_cli.data.load import load_dataset
from frcnn_cli.data.spec import is_dataset_spec, parts
from tests.conftest import assert_one_line_error, run_frcnn
from tests.data.exports import EXPORTS, coco, labelme, picture, voc_xml, write

CAT = [("cat", 10.0, 20.0, 40.0, 60.0)]


def via(path, names, shape=None):
    shape = shape or {"name": "rect", "x": 10, "y": 20, "width": 30, "height": 40}
    regions = [{"shape_attributes": shape, "region_attributes": {"class": "cat"}}]
    write(path, json.dumps({name: {"filename": name, "size": 1, "regions": regions} for name in names}))


def voc(folder, lists, shade=0):
    for i, key in enumerate(dict.fromkeys(key for keys in lists.values() for key in keys)):
        picture(folder / "JPEGImages" / f"{key}.jpg", shade=shade + i)
        write(folder / "Annotations" / f"{key}.xml", voc_xml(f"{key}.jpg", CAT))
    for split, keys in lists.items():
        write(folder / "ImageSets/Main" / f"{split}.txt", "\n".join(keys))
    return f"voc:{folder}"


class TestSeveralFiles:
    def test_of_one_kind_are_all_read(self, tmp_path):
        for split, name in (("train", "a.jpg"), ("val", "b.jpg")):
            picture(tmp_path / split / name)
            via(tmp_path / split / "via.json", [name])
        assert {one.split: len(one.images) for one in read_layout(tmp_path)} == {"train": 1, "val": 1}

    def test_of_one_split_belong_together(self, tmp_path):
        for part, key in (("one", "a"), ("two", "b")):
            picture(tmp_path / part / "train" / f"{key}.jpg", shade=len(part))
            content = json.dumps(coco({key: CAT}))
            write(tmp_path / part / "train" / "_annotations.coco.json", content)
        assert len(load_dataset(f"labels:{tmp_path}", "train")) == 2

    def test_tables_keep_the_splits_that_they_state(self, tmp_path):
        for name, splits in (("x", ("train", "val")), ("y", ("train", "test"))):
            for i, _ in enumerate(splits):
                picture(tmp_path / f"{name}{i}.jpg")
            lines = [f"{name}{i}.jpg,cat,1,2,30,40,{split}" for i, split in enumerate(splits)]
            write(tmp_path / f"{name}.csv", "\n".join(["image,class,x1,y1,x2,y2,split", *lines]))
        assert [len(load_dataset(f"labels:{tmp_path}", s)) for s in ("train", "val", "test")] == [2, 1, 1]

    def test_of_one_picture_are_an_error(self, tmp_path):
        folder = labelme(tmp_path / "d")
        other = json.loads((folder / "a.json").read_text())
        write(folder / "copy.json", json.dumps(other))
        with pytest.raises(DataError, match=r"a\.jpg is labelled by .*a\.json and .*copy\.json"):
            read_layout(folder)

    def test_of_one_name_without_lists_are_an_error(self, tmp_path):
        picture(tmp_path / "images/a.jpg")
        for folder in ("Annotations", "backup"):
            write(tmp_path / folder / "a.xml", voc_xml("a.jpg", CAT))
        with pytest.raises(DataError, match="image 'a' has 2 annotations"):
            read_layout(tmp_path)

    def test_with_their_pictures_in_another_folder(self, tmp_path):
        for name, split in (("a.jpg", "train"), ("b.jpg", "val")):
            picture(tmp_path / "pictures" / name)
            via(tmp_path / "labels" / split / "via.json", [name])
        found = read_layout(tmp_path / "labels", tmp_path / "pictures")
        assert [(one.split, [image.ref.key for image in one.images]) for one in found] == [
            ("train", ["a.jpg"]),
            ("val", ["b.jpg"]),
        ]

    @pytest.mark.parametrize("other", [{1: "cat", 2: "bird"}, {1: "bird", 3: "cat"}])
    def test_whose_classes_differ_are_written_with_the_same_ids(self, tmp_path, other):
        """A class that a split lacks must not get the ID of another."""
        parts_of, names = [], {"train": {1: "cat", 3: "dog"}, "valid": other}
        for split, classes in names.items():
            picture(tmp_path / split / f"{split}.jpg", shade=len(split))
            content = {"images": [{"id": 1, "file_name": f"{split}.jpg"}]}
            content["categories"] = [{"id": number, "name": name} for number, name in classes.items()]
            content["annotations"] = [
                {"id": n, "image_id": 1, "category_id": n, "bbox": [n, 2, 30, 40]} for n in classes
            ]
            write(tmp_path / split / "_annotations.coco.json", json.dumps(content))
            parts_of.append(sorted((name, number) for number, name in classes.items()))
        convert_labels(tmp_path, "coco", tmp_path / "o")
        written = [json.loads((tmp_path / f"o/annotations/instances_{s}.json").read_text()) for s in names]
        ids = [{c["name"]: c["id"] for c in one["categories"]} for one in written]
        assert ids[0] == ids[1]
        assert len(set(ids[0].values())) == len(ids[0]) == 3
        for one, expected in zip(written, parts_of, strict=True):
            named = {number: name for name, number in ids[0].items()}
            found = sorted((named[a["category_id"]], int(a["bbox"][0])) for a in one["annotations"])
            assert found == expected


class TestNames:
    def test_labelme_names_its_picture(self, tmp_path):
        folder = labelme(tmp_path / "d")
        picture(folder / "a.png", (50, 40))
        (labels,) = read_layout(folder)
        assert [image.ref.key for image in labels.images] == ["a.jpg", "b.jpg"]
        (folder / "a.jpg").rename(folder / "a.bmp")
        with pytest.raises(DataError, match=r"could belong to a\.bmp and a\.png"):
            read_layout(folder)

    def test_pictures_found_by_a_part_of_their_path_are_mentioned(self, tmp_path):
        picture(tmp_path / "p/old/a.jpg")
        write(tmp_path / "l.csv", "image,class,x1,y1,x2,y2\nnew/a.jpg,cat,1,2,30,40\n")
        (labels,) = read_layout(tmp_path / "l.csv", tmp_path / "p")
        assert "1 picture(s) were found by a part of their path, e.g. 'new/a.jpg' is old/a.jpg" in labels.notes

    def test_results_go_by_the_name_of_the_file(self, tmp_path):
        write(tmp_path / "instances_x.json", json.dumps(coco({"images/a": CAT, "images/b": CAT})))
        value = {"image_id": 0, "category_id": 1, "bbox": [10, 20, 30, 40], "score": 1.0}
        data = ("--data", f"coco:{tmp_path}/instances_x.json", "--json")
        write(tmp_path / "r.json", json.dumps([{"file_name": "b.jpg", **value}, {"file_name": "a.jpg", **value}]))
        assert run_frcnn("eval", tmp_path / "r.json", *data).json["map"] == 1
        write(tmp_path / "r.json", json.dumps([{"file_name": "c.jpg", **value}]))
        assert run_frcnn("eval", tmp_path / "r.json", *data).code == 1

    def test_entries_of_box_files_whose_folders_contradict(self):
        from frcnn_cli.core.image import ImageRef
        from frcnn_cli.proposals.box_files.matching import match

        refs = [ImageRef("train/1.jpg", None), ImageRef("test/1.jpg", None)]
        assert match(["train/1.jpg", "val/1.jpg"], refs)[0] == [0, None]
        assert match(["train/1.jpg", "C:\\x\\2.jpg"], [refs[0], ImageRef("test/2.jpg", None)])[0] == [0, 1]

    def test_lines_of_lists(self, tmp_path):
        voc(tmp_path, {"train": ["photo"]})
        write(tmp_path / "ImageSets/Main/train.txt", "photo 2\n")
        with pytest.raises(DataError, match="has no image for 'photo 2'"):
            load_dataset(f"voc:{tmp_path}", "train")

    @pytest.mark.parametrize("layout", ["csv", "coco", "yolo"])
    def test_one_name_in_two_folders_there_and_back(self, tmp_path, layout):
        for i, name in enumerate(("a.jpg", "sub/a.jpg")):
            picture(tmp_path / "p" / name, shade=i)
        write(tmp_path / "p/l.csv", "image,class,x1,y1,x2,y2\na.jpg,cat,1,2,30,40\nsub/a.jpg,dog,5,6,30,40\n")
        convert_labels(str(tmp_path / "p"), layout, tmp_path / "o", stated={"base": 0, "inclusive": False})
        dataset = load_dataset(f"labels:{tmp_path}/o")
        assert [dataset.classes[s.truth.labels[0]] for s in dataset.samples] == ["cat", "dog"]


class TestSplits:
    def test_another_split_than_the_one_that_is_there(self, tmp_path):
        write(tmp_path / "instances_train.json", json.dumps(coco({"a": CAT})))
        picture(tmp_path / "a.jpg")
        with pytest.raises(DataError, match="has no split 'test'. It has: train"):
            load_dataset(f"labels:{tmp_path}/instances_train.json", "test")

    def test_notes_concern_every_split(self, tmp_path):
        for name in "ab":
            picture(tmp_path / f"{name}.jpg")
        write(tmp_path / "l.csv", "image,class,x1,y1,x2,y2,split\na.jpg,c,5,5,9,9,train\nb.jpg,c,5,5,9,9,val\n")
        assert any("--base could not be detected" in note for note in load_dataset(f"labels:{tmp_path}", "val").notes)

    def test_that_overlap_there_and_back(self, tmp_path):
        lists = {"test": ["c"], "train": ["a"], "trainval": ["a", "b"], "val": ["b"]}
        convert_labels(voc(tmp_path / "v", lists), "yolo", tmp_path / "y")
        convert_labels(str(tmp_path / "y"), "voc", tmp_path / "w")
        found = {split: [s.ref.key for s in load_dataset(f"voc:{tmp_path}/w", split).samples] for split in lists}
        assert found == lists
        with pytest.raises(DataError, match="in several splits, which a table cannot express"):
            convert_labels(f"voc:{tmp_path}/v", "csv", tmp_path / "t")

    def test_dividing_a_devkit_whose_splits_overlap(self, tmp_path):
        keys = [f"k{i}" for i in range(10)]
        source = voc(tmp_path / "v", {"train": keys[:5], "trainval": keys})
        converted = convert_labels(source, "voc", tmp_path / "o", val=0.3)
        assert [(d.split, len(d)) for d in converted.datasets] == [("train", 7), ("val", 3)]

    def test_in_the_text_that_names_a_data_set(self, tmp_path):
        (tmp_path / "images@v1.0").mkdir()
        (part,) = parts(f"coco:i.json:{tmp_path}/images@v1.0")
        assert (part.where, part.split) == (f"i.json:{tmp_path}/images@v1.0", None)
        assert [part.where for part in parts("voc:data+labels")] == ["data+labels"]
        assert [part.kind for part in parts("voc:a+labels:b@val")] == ["voc", "labels"]
        assert (is_dataset_spec("labels:x"), is_dataset_spec("labels")) == (True, False)

    def test_frames_and_copies_by_their_names(self):
        from frcnn_cli.data.splitting import group_images

        alike = np.ones(576, np.float32) / 24
        pairs = [("f1.jp2", "f2.jp2"), ("f1_640x480.jpg", "f2_640x480.jpg"), ("a/7.png", "a/8.png")]
        for first, second in pairs:
            assert (
                len(group_images([first, second], {first: "1", second: "2"}, dict.fromkeys((first, second), alike)))
                == 1
            )
        copies = ["cat_jpg.rf.0a1b.jpg", "cat_jpg.rf.ffff.jpg", "dog_jpg.rf.0a1b.jpg"]
        apart = {key: np.eye(576, dtype=np.float32)[i] for i, key in enumerate(copies)}
        assert group_images(copies, {key: key for key in copies}, apart) == [copies[:2], copies[2:]]


class TestLists:
    @pytest.mark.parametrize(
        ("bbox", "label", "count"),
        [("[]", "[]", 0), ("[1, 2, 30, 40]", "cat", 1), ("[[1, 2, 9, 9], [3, 4, 9, 9]]", "cat", 2), ("", "", 0)],
    )
    def test_of_boxes(self, tmp_path, bbox, label, count):
        picture(tmp_path / "a.jpg")
        write(tmp_path / "l.csv", f"image;bbox;label\na.jpg;{bbox};{label}\n")
        assert [len(image.objects) for labels in read_layout(tmp_path / "l.csv") for image in labels.images] == [count]

    @pytest.mark.parametrize(
        ("bbox", "label"), [("[]", "cat"), ("[1, 2, 3]", "cat"), ("[1, 2, 3, 4]", ""), ("", "[a, b]")]
    )
    def test_that_do_not_belong_together(self, tmp_path, bbox, label):
        picture(tmp_path / "a.jpg")
        write(tmp_path / "l.csv", f"image;bbox;label\na.jpg;{bbox};{label}\n")
        with pytest.raises(DataError, match=r"line 2: \d classes, but \d coordinates"):
            read_layout(tmp_path / "l.csv")


class TestNumbers:
    def test_an_ellipse_that_is_turned(self, tmp_path):
        picture(tmp_path / "a.jpg")
        turned = {"name": "ellipse", "cx": 50, "cy": 40, "rx": 20, "ry": 10, "theta": math.pi / 2}
        via(tmp_path / "v.json", ["a.jpg"], turned)
        (labels,) = read_layout(tmp_path / "v.json")
        np.testing.assert_allclose(labels.images[0].objects[0].box, (40, 20, 60, 60), atol=1e-9)

    def test_pictures_of_another_shape_are_not_scaled(self, tmp_path):
        picture(tmp_path / "a.jpg")
        write(tmp_path / "a.xml", voc_xml("a.jpg", CAT, (80, 100)))
        ran = run_frcnn("data", "convert", tmp_path, "--to", "voc", "-o", tmp_path / "o", "--size-mismatch", "scale")
        assert_one_line_error(ran, "annotated as 80 x 100, but the image is 100 x 80, which has another aspect ratio")
        for size in ("<width>1e400</width><height>80</height>", "<width>nan</width><height>80</height>"):
            path = tmp_path / "a.xml"
            path.write_text(voc_xml("a.jpg", CAT).replace("<width>100</width><height>80</height>", size))
            assert load_dataset(f"labels:{tmp_path}").samples[0].size is None

    def test_names_of_areas(self, tmp_path):
        picture(tmp_path / "a.jpg")
        write(tmp_path / "instances_x.json", json.dumps(coco({"a": CAT})))
        write(tmp_path / "r.json", "[]")
        line = ("eval", tmp_path / "r.json", "--data", f"coco:{tmp_path}/instances_x.json", "--coco", "--coco-areas")
        assert run_frcnn(*line, "50:0:100").code == 2
        assert run_frcnn(*line, "all:0:100").code == 2

    def test_many_boxes_that_nearly_coincide(self, tmp_path):
        picture(tmp_path / "a.jpg")
        write(tmp_path / "a.xml", voc_xml("a.jpg", [("cat", 10.0, 20.0, 40.0 + i / 1000, 60.0) for i in range(800)]))
        found = [one for one in lint_dataset(str(tmp_path)).findings if one.kind == "near duplicate"]
        assert len(found) == 799  # one per object, not one per pair


class TestCrowds:
    def test_a_detection_in_a_crowd_is_neither_wrong_nor_unlabelled(self):
        from frcnn_cli.core.annotations import Detections, GroundTruth
        from frcnn_cli.data.contradictions import contradictions
        from frcnn_cli.evaluation.diagnosis import confusion_matrix

        crowd = {"a": GroundTruth([[0, 0, 100, 100]], [0], [True], [True])}
        inside = {"a": Detections([[10, 10, 30, 30]], [0.9], [0], ("cat",))}
        assert contradictions(crowd, inside, ("cat",)) == []
        assert confusion_matrix(inside, crowd, 1).counts.sum() == 0


@pytest.mark.parametrize(
    ("export", "file", "old", "new"),
    [
        ("labelme", "a.json", "40.0", "1" + 400 * "0"),
        ("via_json", "via_project.json", "30.0", "1" + 400 * "0"),
        ("label_studio", "project-1.json", "10.0", "1" + 400 * "0"),
        ("label_studio", "project-1.json", '"data": {', '"data": 5, "x": {'),
        ("label_studio", "project-1.json", '"annotations": [', '"annotations": 5, "x": ['),
        ("supervisely", "ds1/ann/a.jpg.json", "10.0", "1" + 400 * "0"),
        ("via_csv", "via.csv", "file_size,", "file_size,region_attributes,"),
        ("lists_csv", "labels.csv", "[[10.0, 20.0, 40.0, 60.0], [50.0, 8.0, 90.0, 72.0]]", "  "),
        ("retinanet_csv", "annotations.csv", "/data/imgs/a.jpg", "http://[::1/a.jpg"),
        ("ultralytics", "data.yaml", "path: ../datasets/pets", "a: &a [x, x]\nb: &b [*a, *a]\npath: [*b, *b]"),
        ("cvat_yolo", "train.txt", "data/obj_train_data/a.png", 5000 * "x"),
        ("cvat_yolo", "obj.data", "data/train.txt", "data/\0.txt"),
        ("openimages_csv", "validation-annotations-bbox.csv", "0.1", "1e999"),
    ],
)
def test_files_that_lie_end_in_one_line(tmp_path, export, file, old, new):
    source = EXPORTS[export](tmp_path / "d")
    path = tmp_path / "d" / file
    encoding = "utf-16" if export == "lists_csv" else "utf-8"
    text = path.read_text(encoding)
    assert old in text
    path.write_text(text.replace(old, new), encoding)
    with suppress(FrcnnError):
        read_layout(source)


def test_a_yaml_that_is_not_yolos(tmp_path):
    folder = labelme(tmp_path / "d")
    write(folder / "config.yaml", "auto_save: true\n")
    assert read_layout(folder)[0].layout == "labelme"


def test_options_that_have_no_effect_are_refused(tmp_path):
    spec = voc(tmp_path / "v", {"train": ["a"]})
    line = ("data", "convert", spec, "--to", "coco", "-o", tmp_path / "o")
    assert_one_line_error(run_frcnn(*line, "--order", "xywh"), "has no effect", code=2)
    assert_one_line_error(run_frcnn(*line, "--images", tmp_path), "has no effect", code=2)


def test_classes_whose_only_objects_were_dropped_are_named(tmp_path):
    picture(tmp_path / "a.jpg")
    write(tmp_path / "instances_x.json", json.dumps(coco({"a": [*CAT, ("dog", 5.0, 5.0, 5.0, 9.0)]})))
    dataset = load_dataset(f"coco:{tmp_path}/instances_x.json:{tmp_path}", bad_boxes="fix")
    assert "all objects of 'dog' were dropped" in dataset.notes


def test_ids_beyond_the_numbers_that_floats_can_tell_apart(tmp_path):
    content = coco({"a": CAT, "b": CAT})
    large = 2**53
    for image in content["images"]:
        image["id"] += large
    for annotation in content["annotations"]:
        annotation["image_id"] += large
    write(tmp_path / "instances_x.json", json.dumps(content))
    value = {"category_id": 1, "bbox": [10, 20, 30, 40]}
    results = [{"image_id": large, "score": 0.9, **value}, {"image_id": large + 1, "score": 0.8, **value}]
    write(tmp_path / "r.json", json.dumps(results))
    line = ("eval", tmp_path / "r.json", "--data", f"coco:{tmp_path}/instances_x.json", "--coco", "--json")
    told = run_frcnn(*line).json
    assert (told["map"], told["coco"]["AP"]) == (1, 1)


def test_a_split_of_data_yaml_that_has_no_images(tmp_path):
    """As Roboflow's exports name it."""
    folder = EXPORTS["roboflow_yolo"](tmp_path / "d")
    (folder / "data.yaml").write_text((folder / "data.yaml").read_text() + "test: ../test/images\n")
    found = read_layout(folder)
    assert [labels.split for labels in found] == ["train", "val"]
    words = "1 list(s) or folder(s) that data.yaml names do not exist, e.g. test: ../test/images"
    assert all(words in labels.notes for labels in found)
