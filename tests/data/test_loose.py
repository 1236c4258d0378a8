"""A .csv, YOLO's tree, and both layouts written: the same boxes come back."""

import json

import numpy as np
import pytest
from PIL import Image as Pillow

from frcnn_cli.core.errors import FrcnnError
from frcnn_cli.data.load import load_dataset, splits_of
from tests.conftest import assert_one_line_error, run_frcnn
from tests.data.test_voc import write_voc

BOXES = {"a": [("cat", 10, 20, 30, 60), ("dog", 0, 0, 100, 80)], "b": [], "c": [("dog", 5.5, 6, 20, 30)]}


def pictures(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Pillow.new("RGB", (100, 80), (len(name), 0, 0)).save(folder / name)
    return folder


def read_back(path, layout):
    found = {}
    for split in splits_of(f"voc:{path}") if layout == "voc" else ("train", "val", "trainval"):
        annotations = path / f"annotations/instances_{split}.json"
        if layout == "coco" and not annotations.exists():
            continue
        spec = f"voc:{path}" if layout == "voc" else f"coco:{annotations}:{path / 'images'}"
        data = load_dataset(spec, split)
        for sample in data.samples:
            rows = zip(sample.truth.labels, sample.truth.boxes.tolist(), strict=True)
            objects = sorted((data.classes[label], *box) for label, box in rows)
            found[sample.ref.path.stem.split("-")[-1]] = (split, objects)
    return found


def expected(splits):
    return {key: (splits[key], sorted((n, *map(float, box)) for n, *box in rows)) for key, rows in BOXES.items()}


@pytest.mark.parametrize("layout", ["voc", "coco"])
@pytest.mark.parametrize("style", ["corners", "sizes", "semicolons"])
def test_a_csv(tmp_path, layout, style):
    pictures(tmp_path / "p", ["a.jpg", "deep/b.jpg", "c.png", "not-labelled.jpg"])
    header = "filename,class,xmin,ymin,xmax,ymax,split" if style != "sizes" else "image,label,x,y,w,h,split"
    lines = [header]
    for key, rows in BOXES.items():
        for name, x1, y1, x2, y2 in rows:
            numbers = (x1, y1, x2, y2) if style != "sizes" else (x1, y1, x2 - x1, y2 - y1)
            lines.append(",".join(map(str, (f"{key}.{'png' if key == 'c' else 'jpg'}", name, *numbers, "train"))))
    lines.append("b.jpg,,,,,,val")  # nothing is in it
    text = "\n".join(lines)
    (tmp_path / "l.csv").write_text(text.replace(",", ";") if style == "semicolons" else text)
    out = tmp_path / "out"
    line = ("data", "convert", tmp_path / "l.csv", "--images", tmp_path / "p", "--to", layout, "-o", out)
    ran = run_frcnn(*line)
    assert ran.code == 0, ran.err
    assert "1 image(s) are skipped because no line names them, e.g. not-labelled.jpg" in ran.err
    assert read_back(out, layout) == expected({"a": "train", "b": "val", "c": "train"})
    assert_one_line_error(run_frcnn(*line), "exists already")


def yolo(folder, order="split inside", names="data.yaml"):
    splits = {"a": "train", "b": "val", "c": "val"}
    for key, rows in BOXES.items():
        where = {
            "split inside": ("images/" + splits[key], "labels/" + splits[key]),
            "split outside": (splits[key] + "/images", splits[key] + "/labels"),
            "no split": ("images", "labels"),
        }[order]
        pictures(folder, [f"{where[0]}/{key}.jpg"])
        lines = [
            f"{('cat', 'dog').index(n)} {(x1 + x2) / 200} {(y1 + y2) / 160} {(x2 - x1) / 100} {(y2 - y1) / 80}\n"
            for n, x1, y1, x2, y2 in rows
        ]
        if lines:
            (folder / where[1]).mkdir(parents=True, exist_ok=True)
            (folder / where[1] / f"{key}.txt").write_text("".join(lines))
    text = {
        "data.yaml": "names: [cat, dog]\n",
        "d.yml": "nc: 2\nnames:\n  0: cat\n  1: dog\n",
        "classes.txt": "cat\ndog\n",
    }
    (folder / names).write_text(text[names])
    return dict.fromkeys(BOXES, "trainval") if order == "no split" else splits


@pytest.mark.parametrize("layout", ["voc", "coco"])
@pytest.mark.parametrize("order", ["split inside", "split outside", "no split"])
@pytest.mark.parametrize("names", ["data.yaml", "d.yml", "classes.txt"])
def test_yolos_tree(tmp_path, layout, order, names):
    splits = yolo(tmp_path / "y", order, names)
    ran = run_frcnn("data", "convert", tmp_path / "y", "--to", layout, "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    found, wanted = read_back(tmp_path / "out", layout), expected(splits)
    assert found.keys() == wanted.keys()
    for key, (split, objects) in wanted.items():
        assert found[key][0] == split
        assert [o[0] for o in found[key][1]] == [o[0] for o in objects]
        np.testing.assert_allclose([o[1:] for o in found[key][1]], [o[1:] for o in objects], atol=1e-4)


def test_there_and_back_again(tmp_path):
    """VOC to COCO to VOC: marks, whole corners and all."""
    write_voc(tmp_path / "v", {"x": [("cat", 1, 1, 100, 80, 1), ("ox &amp; co", 3, 4, 5, 6)], "y": []})
    line = ("data", "convert", f"voc:{tmp_path / 'v'}", "--to", "coco", "-o", tmp_path / "c")
    assert run_frcnn(*line).code == 0
    spec = f"coco:{tmp_path}/c/annotations/instances_train.json:{tmp_path}/c/images"
    assert run_frcnn("data", "convert", spec, "--to", "voc", "-o", tmp_path / "w").code == 0
    before, after = (load_dataset(f"voc:{tmp_path / name}", "train") for name in "vw")
    assert before.classes == after.classes
    for one, two in zip(before.samples, after.samples, strict=True):
        assert one.ref.key == two.ref.key
        for name in ("boxes", "labels", "difficult"):
            np.testing.assert_array_equal(getattr(one.truth, name), getattr(two.truth, name))
    text = (tmp_path / "w/Annotations/x.xml").read_text()
    assert "<xmin>3</xmin><ymin>4</ymin><xmax>5</xmax><ymax>6</ymax>" in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("a,b\n1,2\n", "has the columns a, b"),
        ("image,class,x,y,w,h\nz.jpg,cat,1,2,3,4\n", "1 of the 1 images that"),
        ("image,class,x,y,w,h\na.jpg,cat,1,2,3\n", "line 2: not an object: cat 1 2 3 (nothing)"),
        ("image,class,x,y,w,h\na.jpg,cat,1,2,abc,4\n", "line 2: 'abc' is not a number"),
        ("image,class,x,y,w,h\na.jpg,,1,2,3,4\n", "line 2: not an object"),
        ("image,class,x,y,w,h\na.jpg,cat,1,2,nan,4\n", "line 2: not an object"),
        ("image,class,x,y,w,h,split\na.jpg,cat,1,2,3,4,p\na.jpg,cat,1,2,3,4,q\n", "into a second split"),
        ("image,class,x,y,w,h,split\na.jpg,cat,1,2,3,4,../p\n", "cannot be the name of a split"),
        ("image,class,x,y,w,h\na.jpg,cat,90,2,30,4\n", "reaches outside"),
        (f"image,class,x,y,w,h\na.jpg,{200_000 * 'c'},1,2,3,4\n", "line 2: field larger than"),
        (f"image,class,x,y,w,{200_000 * 'h'}\n", "line 1: field larger than"),
        ("image,class,x,y,w,h\na.jpg,ca\x01t,1,2,3,4\n", "cannot be the name of a class"),
        ("image,class,x,y,w,h\na.jpg,cat,1,2,1,30\n", "is at most one pixel wide"),
    ],
)
def test_tables_that_are_none(tmp_path, text, words):
    pictures(tmp_path / "p", ["a.jpg"])
    (tmp_path / "l.csv").write_text(text)
    line = ("data", "convert", tmp_path / "l.csv", "--images", tmp_path / "p", "--to", "voc", "-o", tmp_path / "out")
    assert_one_line_error(run_frcnn(*line), words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "line", ["0 0.5 0.5 0.1", "0 0.5 0.5 0.1 nan", "cat 0 0 1 1", "-1 0 0 1 1", "0 .1 .1 .2 .2 .3 .3 .4"]
)
def test_yolo_lines_that_are_none(tmp_path, line):
    yolo(tmp_path / "y")
    (tmp_path / "y/labels/train/a.txt").write_text(line)
    ran = run_frcnn("data", "convert", tmp_path / "y", "--to", "voc", "-o", tmp_path / "out")
    assert_one_line_error(ran, "a.txt line 1 is not an object")


@pytest.mark.parametrize(
    "text",
    [
        *("names: 3", "names: {0: a, 2: b}", "- 1", "{", "!!python/object/apply:os.system [ls]"),
        *("names: [cat, cat]", "names: [cat, [dog]]", "a: &a [x, x]\nb: &b [*a, *a]\nnames: [*b, *b]", "names: ['']"),
    ],
)
def test_names_that_are_none(tmp_path, text):
    yolo(tmp_path / "y")
    (tmp_path / "y/data.yaml").write_text(text)
    ran = run_frcnn("data", "convert", tmp_path / "y", "--to", "voc", "-o", tmp_path / "out")
    assert_one_line_error(ran, "names the class 'cat' twice" if "cat, cat" in text else "data.yaml")


def test_names_are_what_is_written(tmp_path):
    yolo(tmp_path / "y")
    (tmp_path / "y/data.yaml").write_text("names: [yes, 1]")
    assert run_frcnn("data", "convert", tmp_path / "y", "--to", "coco", "-o", tmp_path / "out").code == 0
    text = (tmp_path / "out/annotations/instances_train.json").read_text()
    assert '"name": "yes"' in text
    assert '"name": "1"' in text


@pytest.mark.parametrize("layout", ["voc", "coco"])
def test_splits_whose_pictures_share_a_name(tmp_path, layout):
    """As COCO's train and val may: one of them must not be written over the other."""
    parts = []
    for split, width in (("train", 100), ("val", 80)):
        (tmp_path / split).mkdir()
        Pillow.new("RGB", (width, 60)).save(tmp_path / split / "1.png")
        image = {"id": 1, "file_name": "1.png", "width": width, "height": 60}
        annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40]}
        content = {"images": [image], "annotations": [annotation], "categories": [{"id": 1, "name": "cat"}]}
        (tmp_path / f"instances_{split}.json").write_text(json.dumps(content))
        parts.append(f"coco:{tmp_path}/instances_{split}.json:{tmp_path / split}")
    ran = run_frcnn("data", "convert", "+".join(parts), "--to", layout, "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    for split, width in (("train", 100), ("val", 80)):
        annotations = f"{tmp_path}/out/annotations/instances_{split}.json"
        spec = f"voc:{tmp_path}/out" if layout == "voc" else f"coco:{annotations}:{tmp_path}/out/images"
        (sample,) = load_dataset(spec, split).samples
        assert Pillow.open(sample.ref.path).width == width
        assert sample.truth.boxes.tolist() == [[1, 2, 31, 42]]


def test_slivers_in_voc(tmp_path):
    pictures(tmp_path / "p", ["a.jpg"])
    (tmp_path / "l.csv").write_text("image,class,x,y,w,h\na.jpg,cat,1,2,1,30\na.jpg,cat,1,2,2,30\n")
    line = ("data", "convert", tmp_path / "l.csv", "--images", tmp_path / "p", "--to", "voc", "-o", tmp_path / "out")
    ran = run_frcnn(*line, "--bad-boxes", "fix")
    assert "dropped 1 box(es) of trainval that are at most one pixel wide" in ran.err
    assert read_back(tmp_path / "out", "voc") == {"a": ("trainval", [("cat", 1.0, 2.0, 3.0, 32.0)])}


def test_blanks_in_names_and_crowds_in_voc(tmp_path):
    (tmp_path / "p").mkdir()
    Pillow.new("RGB", (100, 60)).save(tmp_path / "p/my cat.png")
    content = {
        "images": [{"id": 1, "file_name": "my cat.png"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40], "iscrowd": 1}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "instances_train.json").write_text(json.dumps(content))
    spec = f"coco:{tmp_path}/instances_train.json:{tmp_path}/p"
    ran = run_frcnn("data", "convert", spec, "--to", "voc", "-o", tmp_path / "out")
    assert "1 crowd(s) are now marked difficult" in ran.err
    data = load_dataset(f"voc:{tmp_path / 'out'}", "train")
    assert [sample.ref.key for sample in data.samples] == ["my_cat"]
    assert data.samples[0].truth.difficult.tolist() == [True]


def test_outlines_in_yolos_tree(tmp_path):
    yolo(tmp_path / "y")
    (tmp_path / "y/labels/train/a.txt").write_text("1 .1 .25 .5 .25 .4 .75 .2 .5\n0 .5 .5 .2 .2 .9\n")
    assert run_frcnn("data", "convert", tmp_path / "y", "--to", "coco", "-o", tmp_path / "out").code == 0
    split, objects = read_back(tmp_path / "out", "coco")["a"]
    assert split == "train"
    assert [name for name, *_ in objects] == ["cat", "dog"]
    np.testing.assert_allclose([box for _, *box in objects], [[40, 32, 60, 48], [10, 20, 50, 60]], atol=1e-4)


def test_two_names_that_would_become_one(tmp_path):
    pictures(tmp_path / "p", ["a.jpg", "a.png"])
    (tmp_path / "l.csv").write_text("image,class,x,y,w,h\na.jpg,cat,1,2,3,4\na.png,cat,1,2,3,4\n")
    line = ("data", "convert", tmp_path / "l.csv", "--images", tmp_path / "p", "--to", "voc", "-o", tmp_path / "out")
    assert_one_line_error(run_frcnn(*line), "would both become 'a'")


def test_download_is_torchvisions(tmp_path, monkeypatch):
    """From an archive of our own in place of VOC's."""
    import hashlib
    import tarfile
    import threading
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    from torchvision.datasets import voc as theirs

    write_voc(tmp_path / "made/VOCdevkit/VOC2012", {"x": [("cat", 1, 1, 9, 9)]})
    (tmp_path / "made/VOCdevkit/VOC2012/ImageSets/Main/trainval.txt").write_text("x\n")
    with tarfile.open(tmp_path / "voc.tar", "w") as archive:
        archive.add(tmp_path / "made/VOCdevkit", "VOCdevkit")
    checksum = hashlib.md5((tmp_path / "voc.tar").read_bytes()).hexdigest()
    base = "VOCdevkit/VOC2012"
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path)))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    entry = {
        "url": f"http://127.0.0.1:{server.server_port}/voc.tar",
        "filename": "got.tar",
        "md5": checksum,
        "base_dir": base,
    }
    monkeypatch.setitem(theirs.DATASET_YEAR_DICT, "2012", entry)
    ran = run_frcnn("data", "download", "voc2012", "-o", tmp_path / "data")
    assert ran.code == 0, ran.err
    assert "VOC2012: train, trainval" in ran.out
    assert len(load_dataset(f"voc2012:{tmp_path / 'data'}", "trainval")) == 1
    entry["md5"] = "0" * 32
    ran = run_frcnn("data", "download", "voc2012", "-o", tmp_path / "other")
    server.shutdown()
    assert_one_line_error(ran, "got.tar could not be downloaded")


def test_an_unknown_source(tmp_path):
    with pytest.raises(FrcnnError):
        load_dataset("yolo:x", "train")
    assert_one_line_error(
        run_frcnn("data", "convert", tmp_path / "no", "--to", "voc", "-o", tmp_path / "o"), "no does not exist"
    )
    assert run_frcnn("data", "convert", __file__, "--to", "voc", "-o", tmp_path / "o").code == 1


def test_pictures_of_one_name_in_two_folders(tmp_path):
    pictures(tmp_path / "p", ["train/0.jpg", "val/0.jpg"])
    table = "image,class,x,y,w,h,split\ndata/train/0.jpg,cat,1,2,3,4,train\ndata/val/0.jpg,dog,5,6,7,8,val\n"
    (tmp_path / "l.csv").write_text(table)
    line = ("data", "convert", tmp_path / "l.csv", "--images", tmp_path / "p", "--to", "voc", "-o")
    assert run_frcnn(*line, tmp_path / "out").code == 0
    for split, name in (("train", "cat"), ("val", "dog")):
        data = load_dataset(f"voc:{tmp_path / 'out'}", split)
        assert [data.classes[label] for sample in data.samples for label in sample.truth.labels] == [name]
    (tmp_path / "l.csv").write_text("image,class,x,y,w,h\n0.jpg,cat,1,2,3,4\n")
    assert_one_line_error(run_frcnn(*line, tmp_path / "other"), "could be train/0.jpg or val/0.jpg")


def test_splits_and_keys_with_odd_names(tmp_path):
    write_voc(tmp_path / "v", {"shot.1": [("cat", 1, 1, 9, 9)], "shot.2": [("cat", 1, 1, 9, 9)]})
    main = tmp_path / "v/ImageSets/Main"
    (main / "my_split.txt").write_text("shot.1\n")
    (main / "cat_train.txt").write_text("shot.1 1\n")
    assert splits_of(f"voc:{tmp_path / 'v'}") == ["my_split", "train"]
    assert run_frcnn("data", "convert", f"voc:{tmp_path / 'v'}", "--to", "voc", "-o", tmp_path / "w").code == 0
    assert [s.ref.key for s in load_dataset(f"voc:{tmp_path / 'w'}", "train").samples] == ["shot.1", "shot.2"]


def test_a_union_keeps_its_splits_and_numbers(tmp_path):
    write_voc(tmp_path / "v", {"a": [("cat", 1, 1, 9, 9)]})
    (tmp_path / "v/ImageSets/Main/val.txt").write_text("b\n")
    write_voc(tmp_path / "x", {"b": [("dog", 1, 1, 9, 9)]})
    for place in ("JPEGImages/b.jpg", "Annotations/b.xml"):
        (tmp_path / "x" / place).rename(tmp_path / "v" / place)
    spec = f"voc:{tmp_path / 'v'}@train+voc:{tmp_path / 'v'}@val"
    assert run_frcnn("data", "convert", spec, "--to", "coco", "-o", tmp_path / "c").code == 0
    train, val = (tmp_path / f"c/annotations/instances_{name}.json" for name in ("train", "val"))
    folder = tmp_path / "c/images"
    assert len(load_dataset(f"coco:{train}:{folder}", "x")) == len(load_dataset(f"coco:{val}:{folder}", "x")) == 1
    # Both count their images from 1: together they have no numbers of COCO's, but those of their keys.
    both = load_dataset(f"coco:{train}:{folder}+coco:{val}:{folder}", "x")
    assert (both.image_ids, both.numbered) == ({}, {1: "a.jpg", 2: "b.jpg"})
