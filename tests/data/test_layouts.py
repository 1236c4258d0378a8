"""Exports of other tools are recognised and read: the same boxes, classes and splits whatever the layout."""

import json
from pathlib import PurePosixPath

import numpy as np
import pytest

from frcnn_cli.core.errors import DataError
from frcnn_cli.data.layouts import read_layout
from frcnn_cli.data.lint import lint_dataset
from frcnn_cli.data.load import load_dataset, splits_of
from tests.conftest import run_frcnn
from tests.data.exports import EXPECTED, EXPORTS, SPLITS, labelme, picture, write


def objects_of(dataset):
    """By the stem of its name, the objects of each image: class and corners, rounded to hundredths."""
    found = {}
    for sample in dataset.samples:
        rows = zip(sample.truth.labels, sample.truth.boxes.tolist(), strict=True)
        found[PurePosixPath(sample.ref.key).stem] = sorted(
            (dataset.classes[label], *(round(v, 2) for v in box)) for label, box in rows
        )
    return found


def every_split(spec):
    found = {}
    for split in splits_of(spec):
        for key, objects in objects_of(load_dataset(spec, split)).items():
            found[key] = split, objects
    return found


@pytest.mark.parametrize("export", EXPORTS)
def test_an_export(tmp_path, export):
    path = EXPORTS[export](tmp_path / "d")
    splits = SPLITS.get(export, ("trainval", "trainval"))
    expected = {key: (split, EXPECTED[key]) for key, split in zip("ab", splits, strict=True)}
    assert every_split(f"labels:{path}") == expected


@pytest.mark.parametrize("layout", ["voc", "coco", "yolo", "csv"])
@pytest.mark.parametrize("export", EXPORTS)
def test_an_export_converted(tmp_path, export, layout):
    path, out = EXPORTS[export](tmp_path / "d"), tmp_path / "out"
    ran = run_frcnn("data", "convert", path, "--to", layout, "-o", out)
    assert ran.code == 0, ran.err
    assert "read as" in ran.err
    splits = SPLITS.get(export, ("trainval", "trainval"))
    found = {}
    for split in dict.fromkeys(splits):
        annotations = out / f"annotations/instances_{split}.json"
        spec = {"voc": f"voc:{out}", "coco": f"coco:{annotations}:{out}/images"}.get(layout, f"labels:{out}")
        dataset = load_dataset(spec, split)
        assert dataset.classes == ("cat", "dog") or layout in ("coco", "voc", "csv")
        found |= {key: (split, objects) for key, objects in objects_of(dataset).items()}
    assert found == {key: (split, EXPECTED[key]) for key, split in zip("ab", splits, strict=True)}


@pytest.mark.parametrize("export", ["ultralytics", "roboflow_coco", "labelme", "tensorflow_csv", "plain_voc"])
def test_lint_reads_them_too(tmp_path, export):
    result = lint_dataset(str(EXPORTS[export](tmp_path / "d")))
    assert result.images == 2
    assert not [finding for finding in result.findings if finding.level == "error"]
    assert len(result.layouts) == 1


def test_what_is_left_out_is_counted(tmp_path):
    folder = labelme(tmp_path / "d")
    picture(folder / "c.jpg")
    (labels,) = read_layout(folder)
    assert "4 shape(s) are points, lines or background and are skipped" in labels.notes[0]
    assert labels.notes[1] == "1 picture(s) have no file of labels and are skipped, e.g. c.jpg"


def test_two_layouts_in_one_folder(tmp_path):
    folder = EXPORTS["labelimg_voc"](tmp_path / "d")
    EXPORTS["labelimg_yolo"](folder)
    labels, *_ = read_layout(folder)
    assert labels.layout.startswith("VOC XML")
    assert any("also holds YOLO, which is not read" in note for note in labels.notes)


def test_nothing_that_is_known(tmp_path):
    picture(tmp_path / "d" / "a.jpg")
    with pytest.raises(DataError, match="holds no labels that are recognised"):
        read_layout(tmp_path / "d")
    with pytest.raises(DataError, match="does not exist"):
        read_layout(tmp_path / "none")


def test_missing_pictures_are_counted_in_one_line(tmp_path):
    lines = ["image,class,x,y,w,h", *(f"{i}.jpg,cat,1,2,3,4" for i in range(3000))]
    picture(tmp_path / "p" / "0.jpg")
    write(tmp_path / "l.csv", "\n".join(lines))
    with pytest.raises(DataError) as raised:
        read_layout(tmp_path / "l.csv", tmp_path / "p")
    assert "2999 of the 3000 images" in str(raised.value)
    assert len(str(raised.value)) < 500


def test_label_studio_rotates_in_pixels(tmp_path):
    """90 degrees about the first corner, clockwise: in percent of a picture that is not square, sides would change."""
    folder = EXPORTS["label_studio"](tmp_path / "d")
    tasks = json.loads((folder / "project-1.json").read_text())
    tasks[0]["annotations"][0]["result"] = tasks[0]["annotations"][0]["result"][:1]
    value = tasks[0]["annotations"][0]["result"][0]["value"]
    value.update(x=50, y=25, width=20, height=50, rotation=90)  # 20 x 40 pixels at 50, 20
    (folder / "project-1.json").write_text(json.dumps(tasks))
    found = objects_of(load_dataset(f"labels:{folder}"))["a"]
    np.testing.assert_allclose(found[0][1:], (10, 20, 50, 40), atol=0.01)


def test_masks_and_polygons_of_coco_have_boxes(tmp_path):
    """Where there is no bbox: polygons, runs, and runs that pycocotools compressed."""
    from pycocotools import mask as rle

    pixels = np.zeros((80, 100), np.uint8, order="F")
    pixels[20:60, 10:40] = 1
    compressed = rle.encode(pixels)
    runs = [10 * 80 + 20]
    for _ in range(29):
        runs += [40, 40]
    runs += [40, 80 * 60 + 20]
    segments = [
        [[10, 20, 40, 20, 40, 60, 10, 60]],
        {"size": [80, 100], "counts": runs},
        {"size": [80, 100], "counts": compressed["counts"].decode()},
    ]
    annotations = [{"id": i, "image_id": 1, "category_id": 1, "segmentation": s} for i, s in enumerate(segments)]
    annotations.append({"id": 9, "image_id": 1, "category_id": 1})
    content = {"images": [{"id": 1, "file_name": "a.jpg"}], "categories": [{"id": 1, "name": "cat"}]}
    write(tmp_path / "x.json", json.dumps(content | {"annotations": annotations}))
    picture(tmp_path / "a.jpg")
    dataset = load_dataset(f"coco:{tmp_path}/x.json:{tmp_path}")
    assert dataset.samples[0].truth.boxes.tolist() == [[10, 20, 40, 60]] * 3
    (note,) = dataset.notes
    assert note == "1 annotation(s) have neither a bbox nor a segmentation and are skipped, e.g. annotation 3"
