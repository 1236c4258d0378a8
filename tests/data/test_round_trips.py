"""There and back for every pair of formats: equal boxes, classes and splits."""

import numpy as np
import pytest

from frcnn_cli.core.errors import DataError
from frcnn_cli.data.convert import WRITERS, convert_labels
from frcnn_cli.data.load import load_dataset
from tests.data.exports import picture, voc_xml, write

SPLITS = {"train": ["one", "two"], "val": ["three"]}
OBJECTS = {
    "one": [("cat", 10.0, 20.0, 40.0, 60.0), ("fire hydrant", 0.0, 0.0, 100.0, 80.0)],
    "two": [],
    "three": [("cat", 5.0, 6.0, 7.0, 80.0), ("zebra", 33.0, 1.0, 99.0, 50.0)],
}


def source(folder):
    for i, (key, objects) in enumerate(OBJECTS.items()):
        picture(folder / "JPEGImages" / f"{key}.jpg", shade=i)
        write(folder / "Annotations" / f"{key}.xml", voc_xml(f"{key}.jpg", objects))
    for split, keys in SPLITS.items():
        write(folder / "ImageSets/Main" / f"{split}.txt", "\n".join(keys))
    return f"voc:{folder}"


def specs(folder, layout):
    """The splits that were written, as commands name them."""
    spec = {"voc": f"voc:{folder}"}.get(layout, f"labels:{folder}")
    annotations = f"{folder}/annotations/instances_"
    coco = {split: f"coco:{annotations}{split}.json:{folder}/images" for split in SPLITS}
    return coco if layout == "coco" else dict.fromkeys(SPLITS, spec)


def content(folder, layout):
    """Per split and image: names and exact boxes."""
    found = {}
    for split, spec in specs(folder, layout).items():
        dataset = load_dataset(spec, split)
        for sample in dataset.samples:
            rows = zip(sample.truth.labels, sample.truth.boxes.tolist(), strict=True)
            found[split, sample.ref.path.stem] = sorted((dataset.classes[label], *box) for label, box in rows)
    return found


EXPECTED = {(split, key): sorted(OBJECTS[key]) for split, keys in SPLITS.items() for key in keys}


@pytest.mark.parametrize("second", WRITERS)
@pytest.mark.parametrize("first", WRITERS)
def test_there_and_back(tmp_path, first, second):
    convert_labels(source(tmp_path / "s"), first, tmp_path / "a")
    assert content(tmp_path / "a", first) == EXPECTED
    back = str(tmp_path / "a") if first != "voc" else f"voc:{tmp_path}/a"
    converted = convert_labels(back, second, tmp_path / "b")
    assert converted.datasets[0].classes == ("cat", "fire hydrant", "zebra")
    assert [dataset.split for dataset in converted.datasets] == list(SPLITS)
    assert content(tmp_path / "b", second) == EXPECTED
    names = sorted(path.name for path in (tmp_path / "b").rglob("*.jpg"))
    assert names == ["one.jpg", "three.jpg", "two.jpg"]


@pytest.mark.parametrize("layout", WRITERS)
def test_fractions_of_pixels(tmp_path, layout):
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 60, (20, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + rng.uniform(2, 15, (20, 2)).astype(np.float32)], axis=1)
    lines = ["image,class,left,top,right,bottom", *(f"a.png,cat,{','.join(map(str, b.tolist()))}" for b in boxes)]
    picture(tmp_path / "p/a.png")
    write(tmp_path / "p/l.csv", "\n".join(lines))
    convert_labels(str(tmp_path / "p"), layout, tmp_path / "o")
    spec = f"coco:{tmp_path}/o/annotations/instances_trainval.json:{tmp_path}/o/images"
    spec = spec if layout == "coco" else specs(tmp_path / "o", layout)["train"]
    found = load_dataset(spec).samples[0].truth.boxes
    np.testing.assert_allclose(found, boxes, atol=1e-5)


@pytest.mark.parametrize("layout", ["coco", "csv"])
def test_marks_are_kept(tmp_path, layout):
    """VOC keeps difficult objects and no crowds, YOLO neither."""
    picture(tmp_path / "p/a.png")
    head = "image,class,left,top,right,bottom,difficult,iscrowd\n"
    write(tmp_path / "p/l.csv", f"{head}a.png,cat,1,2,30,40,1,0\na.png,cat,5,5,50,50,1,1\na.png,cat,9,9,20,20,0,0\n")
    convert_labels(str(tmp_path / "p"), layout, tmp_path / "o")
    spec = f"labels:{tmp_path}/o" if layout == "csv" else None
    spec = spec or f"coco:{tmp_path}/o/annotations/instances_trainval.json:{tmp_path}/o/images"
    truth = load_dataset(spec).samples[0].truth
    assert truth.difficult.tolist() == [True, True, False]
    assert truth.crowd.tolist() == [False, True, False]


def test_two_pictures_whose_labels_would_share_a_file(tmp_path):
    for name in ("a.png", "a.jpg"):
        picture(tmp_path / "p" / name)
    write(tmp_path / "p/l.csv", "image,class,left,top,right,bottom\na.png,cat,1,2,3,4\na.jpg,cat,1,2,3,4\n")
    with pytest.raises(DataError, match=r"would share a\.txt"):
        convert_labels(str(tmp_path / "p"), "yolo", tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_the_sources_order_stays(tmp_path):
    """Of images, classes and COCO's ids; names of files too."""
    import json

    for name in ("z/B.JPG", "a.jpg"):
        picture(tmp_path / "i" / name)
    content = {
        "images": [{"id": 70, "file_name": "z/B.JPG"}, {"id": 3, "file_name": "a.jpg"}],
        "annotations": [{"id": 1, "image_id": 70, "category_id": 8, "bbox": [1, 2, 30, 40]}],
        "categories": [{"id": 5, "name": "zebra"}, {"id": 8, "name": "ant"}],
    }
    write(tmp_path / "instances_x.json", json.dumps(content))
    convert_labels(f"coco:{tmp_path}/instances_x.json:{tmp_path}/i", "coco", tmp_path / "o")
    written = json.loads((tmp_path / "o/annotations/instances_x.json").read_text())
    assert [(image["id"], image["file_name"]) for image in written["images"]] == [(70, "z/B.JPG"), (3, "a.jpg")]
    assert [(c["id"], c["name"]) for c in written["categories"]] == [(5, "zebra"), (8, "ant")]
