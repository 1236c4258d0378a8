"""Situations that users of detection tools reported in public: each is read rightly, or refused in one clear line."""

import json
import pickle

import pytest

from frcnn_cli.data.load import load_dataset
from frcnn_cli.store.reader import StageFile
from tests.conftest import assert_one_line_error, run_frcnn
from tests.data.exports import picture, voc_xml, write

CAT = [("cat", 10.0, 20.0, 40.0, 60.0)]
CONVERT = ("--to", "coco", "-o")


def coco(folder, annotation, categories=None, **image):
    for i, name in enumerate("ab"):
        picture(folder / "img" / f"{name}.jpg", shade=i)
    sizes = {"width": 100, "height": 80} | image
    content = {
        "images": [{"id": i, "file_name": f"{name}.jpg", **sizes} for i, name in enumerate("ab", 1)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [10, 20, 30, 40]} | annotation(i) for i in (1, 2)
        ],
        "categories": categories or [{"id": 1, "name": "cat"}],
    }
    write(folder / "instances_train.json", json.dumps(content))
    return f"coco:{folder}/instances_train.json:{folder}/img"


def csv(folder, text, name="a.jpg"):
    picture(folder / "p" / name)
    write(folder / "l.csv", text)
    return ("data", "convert", folder / "l.csv", "--images", folder / "p", *CONVERT, folder / "o")


def converted(folder, split="trainval"):
    dataset = load_dataset(f"coco:{folder}/o/annotations/instances_{split}.json:{folder}/o/images")
    return {
        sample.ref.key: [(dataset.classes[label], *box) for label, box in zip(t.labels, t.boxes.tolist(), strict=True)]
        for sample in dataset.samples
        for t in (sample.truth,)
    }


def kinds(*arguments):
    told = run_frcnn("data", "lint", *arguments, "--json").json
    return {(finding["level"], finding["kind"]) for finding in told["findings"]}


class TestCoco:
    @pytest.mark.parametrize("mark", ["iscrowd", "ignore"])
    def test_nothing_to_learn_from(self, tmp_path, mark):
        spec = coco(tmp_path, lambda i: {mark: 1})
        assert ("error", "nothing to learn") in kinds(spec)
        props = tmp_path / "p.h5"
        assert run_frcnn("proposals", spec, "-o", props, "--source", "sliding-window", "--workers", 0).code == 0
        line = ("train", "--data", spec, "--props", props, "-o", tmp_path / "run", "--no-difficult")
        ran = run_frcnn(*line, "--backbone", "squeezenet1_0", "--weights", "none", "--epochs", 1)
        what = "are crowds" if mark == "iscrowd" else "are marked difficult"
        assert_one_line_error(ran, f"all 2 objects of {spec} {what}, so there is nothing to train on")

    def test_fractions(self, tmp_path):
        spec = coco(tmp_path, lambda i: {"bbox": [0.1, 0.25, 0.3, 0.5]})
        assert ("error", "fractions") in kinds(spec)
        for line in (
            ("data", "convert", spec, *CONVERT, tmp_path / "o"),
            ("recall", tmp_path / "p.h5", "--data", spec),
        ):
            if line[0] == "recall":
                props = ("-o", tmp_path / "p.h5", "--source", "sliding-window", "--workers", 0)
                assert run_frcnn("proposals", spec, *props).code == 0
            assert_one_line_error(run_frcnn(*line), "are fractions of the image size, not pixels")

    def test_a_category_that_only_groups_others(self, tmp_path):
        root = {"id": 0, "name": "cat", "supercategory": "none"}
        spec = coco(tmp_path, lambda i: {}, [root, {"id": 1, "name": "cat", "supercategory": "cat"}])
        assert kinds(spec) == set()
        assert load_dataset(spec).classes == ("cat",)
        spec = coco(tmp_path / "x", lambda i: {"category_id": i - 1}, [root, {"id": 1, "name": "cat"}])
        assert_one_line_error(run_frcnn("data", "lint", spec), "categories 0 and 1 are both called 'cat'")

    @pytest.mark.parametrize("kind", [str, float])
    def test_ids_of_another_type(self, tmp_path, kind):
        dataset = load_dataset(coco(tmp_path, lambda i: {"image_id": kind(i), "category_id": kind(1)}))
        assert [len(sample.truth) for sample in dataset.samples] == [1, 1]

    @pytest.mark.parametrize(("value", "crowd"), [("false", False), ("0", False), ("true", True), (True, True)])
    def test_crowds_as_text(self, tmp_path, value, crowd):
        dataset = load_dataset(coco(tmp_path, lambda i: {"iscrowd": value}))
        assert dataset.samples[0].truth.crowd.tolist() == [crowd]

    def test_names_of_another_machine(self, tmp_path):
        spec = coco(tmp_path, lambda i: {})
        path = tmp_path / "instances_train.json"
        path.write_text(
            path.read_text().replace('"a.jpg"', r'"C:\\data\\a.jpg"').replace('"b.jpg"', '"http://x/b.jpg"')
        )
        assert [sample.ref.key for sample in load_dataset(spec).samples] == ["a.jpg", "b.jpg"]

    def test_an_ending_that_is_rare(self, tmp_path):
        """b.jfif becomes b.jfif, which every reader finds."""
        picture(tmp_path / "b.jpg")
        (tmp_path / "img").mkdir()
        (tmp_path / "b.jpg").rename(tmp_path / "img/b.jfif")
        content = {"images": [{"id": 1, "file_name": "b.jfif"}], "categories": [{"id": 1, "name": "cat"}]}
        content["annotations"] = [{"image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 40]}]
        write(tmp_path / "instances_train.json", json.dumps(content))
        spec = f"coco:{tmp_path}/instances_train.json:{tmp_path}/img"
        assert run_frcnn("data", "convert", spec, "--to", "voc", "-o", tmp_path / "o").code == 0
        (sample,) = load_dataset(f"voc:{tmp_path}/o", "train").samples
        assert (sample.ref.path.name, sample.truth.boxes.tolist()) == ("b.jfif", [[10, 20, 40, 60]])

    def test_roboflows_splits(self, tmp_path):
        for split, name in (("train", "a"), ("valid", "b")):
            picture(tmp_path / split / f"{name}.jpg", shade=len(split))
            content = {"images": [{"id": 0, "file_name": f"{name}.jpg"}], "categories": [{"id": 1, "name": "cat"}]}
            content["annotations"] = [{"id": 0, "image_id": 0, "category_id": 1, "bbox": [1, 2, 30, 40]}]
            write(tmp_path / split / "_annotations.coco.json", json.dumps(content))
        both = "+".join(f"coco:{tmp_path}/{s}/_annotations.coco.json:{tmp_path}/{s}" for s in ("train", "valid"))
        for source, out in ((tmp_path, "o1"), (both, "o2")):
            told = run_frcnn("data", "convert", source, "--to", "voc", "-o", tmp_path / out, "--json").json
            assert {split: one["images"] for split, one in told["splits"].items()} == {"train": 1, "valid": 1}
        assert len(load_dataset(both)) == 2


class TestTables:
    HEAD = "image,class,xmin,ymin,xmax,ymax\n"

    @pytest.mark.parametrize("name", [r"sorted\sad\a.jpg", r"C:\me\sorted\sad\a.jpg", "http://x/sad/a.jpg", "a"])
    def test_names(self, tmp_path, name):
        line = csv(tmp_path, f"{self.HEAD}{name},cat,10,20,40,60\n", "sorted/sad/a.jpg")
        assert run_frcnn(*line).code == 0
        assert converted(tmp_path) == {"sorted/sad/a.jpg": CAT}

    def test_the_line_of_an_error(self, tmp_path):
        line = csv(tmp_path, f"{self.HEAD}a.jpg,cat,10,20,30,40\n\n\na.jpg,cat,10,20,xx,40\n")
        assert_one_line_error(run_frcnn(*line), "l.csv line 5: 'xx' is not a number")

    def test_fractions(self, tmp_path):
        ran = run_frcnn(*csv(tmp_path, f"{self.HEAD}a.jpg,cat,0.1,0.25,0.4,0.75\n"))
        assert "relative to the image size (order stated, base detected, end detected, relative detected)" in ran.err
        assert converted(tmp_path) == {"a.jpg": CAT}

    def test_another_size(self, tmp_path):
        text = "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,50,40,cat,5,10,20,30\n"
        line = csv(tmp_path, text)
        assert_one_line_error(run_frcnn(*line), "a.jpg: annotated as 50 x 40, but the image is 100 x 80")
        ran = run_frcnn(*line, "--size-mismatch", "scale")
        assert "converted the boxes of 1 image(s) to the size of their picture, e.g. a.jpg" in ran.err
        assert converted(tmp_path) == {"a.jpg": CAT}

    def test_the_convention_of_its_numbers(self, tmp_path):
        """Where boxes end at the border of the image, they show it; an option states it."""
        whole = f"{self.HEAD}" + "".join(f"a.jpg,cat,1,{y},100,80\n" for y in range(1, 9))
        ran = run_frcnn(*csv(tmp_path / "x", whole))
        assert "pixels from 1, far corner inside the box (order stated, base detected, end detected" in ran.err
        assert converted(tmp_path / "x")["a.jpg"][0] == ("cat", 0, 0, 100, 80)
        ran = run_frcnn(*csv(tmp_path / "y", f"{self.HEAD}a.jpg,cat,11,21,40,60\n"), "--base", 1, "--end", "inside")
        assert converted(tmp_path / "y") == {"a.jpg": CAT}
        ran = run_frcnn(*csv(tmp_path / "z", f"{self.HEAD}a.jpg,cat,11,21,40,60\n"))
        assert "warning: --base could not be detected; --base 0 is assumed" in ran.err


class TestVoc:
    def tree(self, folder, keys, listed=None, ending=".jpg"):
        for key in keys:
            picture(folder / "JPEGImages" / f"{key}{ending}")
            write(folder / "Annotations" / f"{key}.xml", voc_xml(f"{key}{ending}", CAT))
        write(folder / "ImageSets/Main/trainval.txt", "\n".join(listed or keys) + "\n")
        return f"voc:{folder}"

    def test_blanks_in_names(self, tmp_path):
        spec = self.tree(tmp_path, ["img 1", "img"])
        assert [sample.ref.key for sample in load_dataset(spec).samples] == ["img", "img 1"]

    def test_lists_of_one_class_and_with_endings(self, tmp_path):
        spec = self.tree(tmp_path, ["a", "b"], ["a 1", "b.jpg"])
        assert [sample.ref.key for sample in load_dataset(spec).samples] == ["a", "b"]

    def test_a_namespace(self, tmp_path):
        spec = self.tree(tmp_path, ["a"])
        path = tmp_path / "Annotations/a.xml"
        path.write_text(path.read_text().replace("<annotation>", '<annotation xmlns="http://example.org/voc">'))
        assert len(load_dataset(spec).samples[0].truth) == 1

    @pytest.mark.parametrize(("text", "difficult"), [("True", True), ("1", True), ("False", False), ("0", False)])
    def test_difficult_as_text(self, tmp_path, text, difficult):
        spec = self.tree(tmp_path, ["a"])
        path = tmp_path / "Annotations/a.xml"
        path.write_text(path.read_text().replace("<difficult>0<", f"<difficult>{text}<"))
        assert load_dataset(spec).samples[0].truth.difficult.tolist() == [difficult]

    def test_two_pictures_of_one_name(self, tmp_path):
        spec = self.tree(tmp_path, ["a"])
        picture(tmp_path / "JPEGImages/a.png")
        ran = run_frcnn("data", "lint", spec)
        assert ran.code == 1
        assert "2 pictures share the name 'a'" in ran.out
        assert_one_line_error(run_frcnn("proposals", spec, "-o", tmp_path / "p.h5"), "2 pictures share the name 'a'")

    def test_what_macos_leaves_behind(self, tmp_path):
        spec = self.tree(tmp_path, ["a"])
        for place in ("JPEGImages/._a.jpg", "Annotations/._a.xml", "ImageSets/Main/._trainval.txt"):
            write(tmp_path / place, "\0\0")
        assert kinds(spec) == set()

    def test_a_split_of_any_name(self, tmp_path):
        spec = self.tree(tmp_path, ["a"])
        write(tmp_path / "ImageSets/Main/_annotations.coco.txt", "a\n")
        assert len(load_dataset(f"{spec}@_annotations.coco")) == 1

    def test_lint_finds_everything_at_once(self, tmp_path):
        """Another picture, another size, boxes that nearly coincide, XML that cannot be read."""
        spec = self.tree(tmp_path, ["a", "b", "c"])
        near = [*CAT, ("cat", 10.0, 20.0, 40.0, 61.0)]
        write(tmp_path / "Annotations/a.xml", voc_xml("other.jpg", near, (200, 160)))
        write(tmp_path / "Annotations/b.xml", "<annotation>")
        assert {
            ("warning", "other picture"),
            ("error", "other size"),
            ("warning", "near duplicate"),
            ("error", "unreadable"),
        } <= kinds(spec)


class TestYolo:
    LINE = "0 .5 .5 .2 .2\n"

    def tree(self, folder, names=("a",), yaml="names: [car]\n"):
        for name in names:
            picture(folder / "images/train" / f"{name}.jpg", shade=ord(name[0]) % 250)
            write(folder / "labels/train" / f"{name}.txt", self.LINE)
        write(folder / "data.yaml", yaml)
        return ("data", "convert", folder, *CONVERT, folder / "o")

    def test_classes_that_contradict(self, tmp_path):
        line = self.tree(tmp_path)
        write(tmp_path / "classes.txt", "dog\nperson\ncat\n")
        assert_one_line_error(run_frcnn(*line), "names the classes car, but", "names dog, person, cat")

    def test_labels_of_no_picture(self, tmp_path):
        line = self.tree(tmp_path, "ab")
        (tmp_path / "labels/train/b.txt").rename(tmp_path / "labels/train/b.jpg.txt")
        ran = run_frcnn(*line)
        assert "1 label file(s) belong to no picture, e.g. labels/train/b.jpg.txt" in ran.err
        assert "1 picture(s) have no label file and are read as images without objects, e.g. images/train/b" in ran.err

    def test_splits_in_lists(self, tmp_path):
        lists = "path: .\ntrain: train.txt\nval: [val.txt]\nnames: {0: car}\n"
        line = self.tree(tmp_path, "abcd", lists)
        write(tmp_path / "train.txt", "./images/train/a.jpg\n./images/train/b.jpg\n")
        write(tmp_path / "val.txt", "./images/train/c.jpg\n")
        ran = run_frcnn(*line)
        assert "1 picture(s) are in no split and are skipped, e.g. images/train/d.jpg" in ran.err
        assert (sorted(converted(tmp_path, "train")), sorted(converted(tmp_path, "val"))) == (
            ["a.jpg", "b.jpg"],
            ["c.jpg"],
        )

    def test_what_macos_leaves_behind(self, tmp_path):
        line = self.tree(tmp_path)
        write(tmp_path / "images/train/._a.jpg", "\0")
        write(tmp_path / "__MACOSX/images/train/._a.jpg", "\0")
        assert run_frcnn(*line).code == 0
        assert list(converted(tmp_path, "train")) == ["a.jpg"]

    def test_key_points_are_not_outlines(self, tmp_path):
        line = self.tree(tmp_path, yaml="kpt_shape: [4, 2]\nnames: [tiger]\n")
        write(tmp_path / "labels/train/a.txt", "0 0.5 0.5 0.2 0.2 0.45 0.45 0.55 0.45 0.45 0.55 0.55 0.55\n")
        assert run_frcnn(*line).code == 0
        assert converted(tmp_path, "train") == {"a.jpg": [("tiger", 40, 32, 60, 48)]}

    def test_oriented_boxes_are_mentioned(self, tmp_path):
        line = self.tree(tmp_path)
        write(tmp_path / "labels/train/a.txt", "0 .5 .25 .75 .5 .5 .75 .25 .5\n")
        ran = run_frcnn(*line)
        assert "all 1 objects are outlines of four corners; the upright boxes around them are used" in ran.err
        assert converted(tmp_path, "train") == {"a.jpg": [("car", 25, 20, 75, 60)]}
        write(tmp_path / "labels/train/a.txt", "0 .5 .5 .2 .2 -1.2\n")  # an angle
        assert_one_line_error(run_frcnn(*line[:-1], tmp_path / "o2"), "a.txt line 1 is not an object")

    def test_pixels(self, tmp_path):
        line = self.tree(tmp_path)
        write(tmp_path / "labels/train/a.txt", "0 50 40 20 16\n")
        assert_one_line_error(run_frcnn(*line), "50 40 20 16 are not fractions of the image size")

    def test_two_pictures_of_one_name(self, tmp_path):
        line = self.tree(tmp_path)
        picture(tmp_path / "images/train/a.png")
        assert_one_line_error(run_frcnn(*line), "images/train/a.jpg and images/train/a.png share the labels")

    def test_lint_lists_every_line(self, tmp_path):
        self.tree(tmp_path, "ab")
        write(tmp_path / "labels/train/a.txt", "0 .5 .5 .2\n0 .5 .5 .2 .2\n7 .5 .5 .2 .2\n")
        ran = run_frcnn("data", "lint", tmp_path)
        assert ran.out.count("unreadable") == 2
        assert "a.txt line 1 is not an object" in ran.out
        assert "a.txt line 3 has class 7" in ran.out


class TestResults:
    def truth(self, folder):
        for key in "ab":
            picture(folder / "JPEGImages" / f"{key}.jpg")
            objects = [*CAT, ("Dog", 50.0, 8.0, 90.0, 72.0)]
            write(folder / "Annotations" / f"{key}.xml", voc_xml(f"{key}.jpg", objects))
        write(folder / "ImageSets/Main/test.txt", "a\nb\n")
        return ("--data", f"voc:{folder}", "--split", "test")

    def results(self, folder, **files):
        for name, text in files.items():
            write(folder / f"comp4_det_test_{name}.txt", text)
        return folder

    def test_a_class_in_small_letters(self, tmp_path):
        data = self.truth(tmp_path / "v")
        res = self.results(tmp_path / "res", cat="a 0.9 11 21 40 60\n", dog="b 0.9 51 9 90 72\n")
        ran = run_frcnn("eval", res, *data)
        assert_one_line_error(ran, "holds no results of Dog; comp4_det_test_dog.txt names no class of the data set")

    def test_keys_with_endings_and_images_without_results(self, tmp_path):
        data = self.truth(tmp_path / "v")
        res = self.results(tmp_path / "res", cat="a.jpg 0.9 11 21 40 60\n", Dog="", bird="a 0.5 1 1 9 9\n")
        ran = run_frcnn("eval", res, *data, "--json")
        assert ran.json["classes"]["cat"]["ap"] == 0.5
        assert "1 result file(s) belong to no class, e.g. comp4_det_test_bird.txt" in ran.err
        assert "1 of the 2 images have no detections" in ran.err

    def test_fractions_and_other_scales(self, tmp_path):
        data = self.truth(tmp_path / "v")
        res = self.results(tmp_path / "res", cat="a 0.9 0.1 0.25 0.4 0.75\n", Dog="")
        assert_one_line_error(run_frcnn("eval", res, *data), "are fractions of the image size, not pixels")
        res = self.results(tmp_path / "big", cat="a 0.9 110 210 400 600\n", Dog="")
        assert "reach 6.7 times as far as those of the objects" in run_frcnn("eval", res, *data).err

    def test_coco_without_its_pictures(self, tmp_path):
        coco(tmp_path, lambda i: {})
        for path in (tmp_path / "img").iterdir():
            path.unlink()
        value = {"category_id": 1, "bbox": [10, 20, 30, 40], "score": 0.9}
        write(tmp_path / "r.json", json.dumps([{"image_id": "1", **value}, {"image_id": "b.jpg", **value}]))
        told = run_frcnn(
            "eval", tmp_path / "r.json", "--data", f"coco:{tmp_path}/instances_train.json", "--coco", "--json"
        )
        assert told.json["coco"]["AP"] == pytest.approx(1)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"image_id": 9}, "image_id '9', which the data set lacks (IDs look like 1)"),
            (
                {"category_id": "x"},
                "category_id 'x', which the data set lacks (an ID of the data set is a number, e.g. 1)",
            ),
        ],
    )
    def test_unknown_ids(self, tmp_path, change, words):
        coco(tmp_path, lambda i: {})
        value = {"image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 40], "score": 0.9} | change
        write(tmp_path / "r.json", json.dumps([value]))
        data = f"coco:{tmp_path}/instances_train.json"
        assert_one_line_error(run_frcnn("eval", tmp_path / "r.json", "--data", data), words)

    def test_nothing_to_find(self, tmp_path):
        coco(tmp_path, lambda i: {"iscrowd": 1})
        write(tmp_path / "r.json", "[]")
        ran = run_frcnn("eval", tmp_path / "r.json", "--data", f"coco:{tmp_path}/instances_train.json", "--json")
        assert "are crowds, so there is nothing to find" in ran.err
        assert ran.json["map"] is None


class TestBoxFiles:
    def imported(self, folder, name):
        for i, key in enumerate("ab"):
            picture(folder / "p" / f"{key}.jpg", shade=i)
        line = ("import", folder / name, "--data", folder / "p", "-o", folder / "o.h5", "--without", "empty")
        ran = run_frcnn(*line, "--base", 0, "--end", "beyond")
        assert ran.code == 0, ran.err
        with StageFile(folder / "o.h5") as file:
            return {image.key: arrays["boxes"].tolist() for image, arrays in file}

    def test_utf_16(self, tmp_path):
        write(tmp_path / "u.csv", "image,x1,y1,x2,y2\na.jpg,10,20,30,40\n", "utf-16")
        assert self.imported(tmp_path, "u.csv") == {"a.jpg": [[10, 20, 30, 40]], "b.jpg": []}

    def test_the_same_names_of_columns_as_convert(self, tmp_path):
        write(tmp_path / "x.csv", "image,x_min,y_min,x_max,y_max\na.jpg,10,20,30,40\n")
        assert self.imported(tmp_path, "x.csv")["a.jpg"] == [[10, 20, 30, 40]]

    def test_names_of_two_machines(self, tmp_path):
        write(tmp_path / "m.csv", "image,x1,y1,x2,y2\na.jpg,10,20,30,40\nC:\\d\\b.jpg,1,2,30,40\n")
        assert self.imported(tmp_path, "m.csv") == {"a.jpg": [[10, 20, 30, 40]], "b.jpg": [[1, 2, 30, 40]]}

    def test_a_pickle_of_protocol_2_with_an_empty_array(self, tmp_path):
        import numpy as np

        content = {"a.jpg": np.array([[10, 20, 30, 40]], np.float32), "b.jpg": np.zeros((0, 4), np.float32)}
        (tmp_path / "n.pkl").write_bytes(pickle.dumps(content, protocol=2))
        assert b"__builtin__" in (tmp_path / "n.pkl").read_bytes()
        assert self.imported(tmp_path, "n.pkl") == {"a.jpg": [[10, 20, 30, 40]], "b.jpg": []}

    def test_a_list_with_a_byte_order_mark(self, tmp_path):
        picture(tmp_path / "p/a.jpg")
        write(tmp_path / "list.txt", "p/a.jpg\n", "utf-8-sig")
        line = ("proposals", f"@{tmp_path / 'list.txt'}", "-o", tmp_path / "o.h5", "--source", "sliding-window")
        assert run_frcnn(*line, "--workers", 0).code == 0


class TestWhatNewUsersTried:
    def test_a_few_objects_that_begin_at_pixel_1_show_nothing(self, tmp_path):
        rows = "".join(f"a.jpg,cat,1,{y},40,{y + 30}\n" for y in (20, 21, 30))
        ran = run_frcnn(*csv(tmp_path, TestTables.HEAD + rows))
        assert "warning: --base could not be detected; --base 0 is assumed" in ran.err
        assert converted(tmp_path)["a.jpg"][0] == ("cat", 1, 20, 40, 50)

    def test_columns_with_blanks(self, tmp_path):
        text = "File Name,Class Name,X Min,Y Min,X Max,Y Max\na.jpg,cat,10,20,40,60\n"
        assert run_frcnn(*csv(tmp_path, text)).code == 0
        assert converted(tmp_path) == {"a.jpg": CAT}

    def test_a_table_that_lacks_one_column(self, tmp_path):
        line = csv(tmp_path, "image_id,width,height,bbox,source\na,100,80,[10, 20, 30, 40],x\n")
        assert_one_line_error(run_frcnn(*line), "has no column of classes; it has the columns image_id, width")

    def test_a_rotated_photograph_without_a_stated_size(self, tmp_path):
        from PIL import Image as Pillow

        exif = Pillow.Exif()
        exif[274] = 6
        TestYolo().tree(tmp_path)
        Pillow.new("RGB", (100, 80)).save(tmp_path / "images/train/a.jpg", exif=exif)
        told = run_frcnn("data", "lint", tmp_path, "--json").json
        (finding,) = [one for one in told["findings"] if one["kind"] == "rotated image"]
        assert finding["what"] == "EXIF rotates it (orientation 6), and its labels state no size"

    def test_darknets_cfg(self, tmp_path):
        picture(tmp_path / "data/obj/a.jpg")
        write(tmp_path / "data/obj/a.txt", TestYolo.LINE)
        write(tmp_path / "data/obj.names", "car\n")
        write(tmp_path / "data/train.txt", "data/obj/a.jpg\n")
        write(tmp_path / "cfg/obj.data", "classes=1\ntrain=data/train.txt\nnames=data/obj.names\n")
        for source in (tmp_path, tmp_path / "cfg/obj.data"):
            dataset = load_dataset(f"labels:{source}", "train")
            assert dataset.samples[0].truth.boxes.tolist() == [[40, 32, 60, 48]]

    def test_attributes_of_which_any_could_be_the_class(self, tmp_path):
        shape = {"name": "rect", "x": 1, "y": 2, "width": 3, "height": 4}
        regions = [{"shape_attributes": shape, "region_attributes": {"colour": "red", "size": "big"}}] * 3
        write(tmp_path / "v.json", json.dumps({"a": {"filename": "a.jpg", "regions": regions}}))
        picture(tmp_path / "a.jpg")
        ran = run_frcnn("data", "lint", tmp_path / "v.json")
        assert_one_line_error(ran, "regions have the attributes colour, size; which is the class?")

    def test_lint_states_why_nothing_can_be_read(self, tmp_path):
        picture(tmp_path / "p/a.jpg")
        write(tmp_path / "l.csv", f"{TestTables.HEAD}z.jpg,cat,1,2,3,4\n")
        ran = run_frcnn("data", "lint", tmp_path / "l.csv", "--images", tmp_path / "p")
        assert "1 of the 1 images" in ran.out

    @pytest.mark.parametrize(
        ("bbox", "words"),
        [
            ([1, 1, -5, 4], "result 0 has a negative width or height"),
            ([60, 30, 95, 75], "reach far outside their images"),
        ],
    )
    def test_results_in_another_order(self, tmp_path, bbox, words):
        coco(tmp_path, lambda i: {})
        value = {"image_id": 1, "category_id": 1, "bbox": bbox, "score": 0.9}
        write(tmp_path / "r.json", json.dumps([value]))
        ran = run_frcnn("eval", tmp_path / "r.json", "--data", f"coco:{tmp_path}/instances_train.json")
        assert words in ran.err
        assert ran.code == (1 if bbox[2] < 0 else 0)

    def test_results_of_another_split(self, tmp_path):
        results = TestResults()
        results.truth(tmp_path / "v")
        write(tmp_path / "v/ImageSets/Main/val.txt", "a\n")
        res = results.results(tmp_path / "res", cat="a 0.9 11 21 40 60\n", Dog="")
        ran = run_frcnn("eval", res, "--data", f"voc:{tmp_path}/v", "--split", "val")
        assert_one_line_error(ran, "holds no results of any class, only comp4_det_test_Dog.txt", "split 'val'")
