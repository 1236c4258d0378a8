"""Every layout of every tool: read right, and written so that it reads back."""

import csv
import json
import pickle
from collections import OrderedDict

import h5py
import numpy as np
import pytest
import scipy.io

from frcnn_cli.core.convention import Convention
from frcnn_cli.core.errors import FileFormatError, FrcnnError, MismatchError
from frcnn_cli.core.image import ImageRecord, ImageRef
from frcnn_cli.proposals.box_files.interpreting import BadBoxes, interpret, read_proposals
from frcnn_cli.proposals.box_files.reading import read_box_file
from frcnn_cli.proposals.exporting import FORMATS
from frcnn_cli.proposals.source import Proposals
from tests.proposals.files.test_convention import EIGHT, some_boxes

KEYS = ("000004", "000005", "000009")
SIZES = ((80, 60), (50, 90), (64, 70))


@pytest.fixture(scope="module")
def boxes():
    rng = np.random.default_rng(7)
    return [some_boxes(rng, *size).astype(np.float32) for size in SIZES]


@pytest.fixture(scope="module")
def scores(boxes):
    return [np.linspace(1, 0, len(b), dtype=np.float32) for b in boxes]


def cells(values):
    array = np.empty((1, len(values)), object)
    for i, value in enumerate(values):
        array[0, i] = value
    return array


def save_v73(path, boxes, names=None):
    """As MATLAB does: cells are references into #refs#, arrays lie transposed."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in [("boxes", boxes)] + ([("images", names)] if names else []):
            references = np.empty((len(values), 1), h5py.ref_dtype)
            for i, value in enumerate(values):
                text = isinstance(value, str)
                content = np.array([[ord(c)] for c in value], np.uint16) if text else np.asarray(value, np.float64).T
                inner = file.create_dataset(f"#refs#/{name}{i}", data=content, compression="gzip")
                inner.attrs["MATLAB_class"] = np.bytes_(b"char" if text else b"double")
                references[i, 0] = inner.ref
            file.create_dataset(name, data=references).attrs["MATLAB_class"] = np.bytes_(b"cell")
    with open(path, "r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")


def read(path, keys=KEYS, sizes=SIZES, on_bad="error", without="error", **stated):
    refs = [ImageRef(key, path.parent / f"{key}.jpg") for key in keys]
    records = [ImageRecord(key, height, width, "-") for key, (width, height) in zip(keys, sizes, strict=True)]
    bad = BadBoxes()
    found = interpret(read_box_file(path), refs, records, None, stated)
    return [proposals for _, proposals in read_proposals(found, records, on_bad, without, bad)], found, bad


def assert_same(found, boxes, scores=None):
    for i, proposals in enumerate(found):
        np.testing.assert_allclose(proposals.boxes, boxes[i], atol=1e-4)
        if scores is not None:
            np.testing.assert_allclose(proposals.scores, scores[i], rtol=1e-6)


def detectron(boxes, scores, ids="ids", **more):
    return {"boxes": boxes, "scores": scores, ids: [int(key) for key in KEYS], **more}


def layouts(boxes, scores):
    """Name of a file, and how it is written."""
    inclusive = [Convention(inclusive=True).from_boxes(b, *size) for b, size in zip(boxes, SIZES, strict=True)]
    published = [Convention("yxyx", 1, True).from_boxes(b, *size) for b, size in zip(boxes, SIZES, strict=True)]
    sized = [Convention("xywh").from_boxes(b, *size) for b, size in zip(boxes, SIZES, strict=True)]
    shares = [Convention(relative=True).from_boxes(b, *size) for b, size in zip(boxes, SIZES, strict=True)]
    rows = [np.concatenate([b, s[:, None]], axis=1) for b, s in zip(boxes, scores, strict=True)]

    def dump(content, protocol=4):
        return lambda path: path.write_bytes(pickle.dumps(content, protocol))

    def dumps_of_every_protocol(content):
        return {f"protocol {p}": dump(content, p) for p in range(6)}

    d2 = {"ids": list(KEYS), "objectness_logits": scores}
    return {
        "selective search.mat": lambda p: scipy.io.savemat(p, {"boxes": cells(published), "images": cells(KEYS)}),
        "no names.mat": lambda p: scipy.io.savemat(p, {"boxes": cells(published)}, do_compression=True),
        "a column of cells.mat": lambda p: scipy.io.savemat(
            p, {"all_boxes": cells(published).T, "images": cells(KEYS)}
        ),
        "another name.mat": lambda p: scipy.io.savemat(p, {"stuff": cells(published), "k": 3}),
        "whole numbers.mat": lambda p: scipy.io.savemat(p, {"boxes": cells([b.astype(np.uint16) for b in published])}),
        "v7.3.mat": lambda p: save_v73(p, published, KEYS),
        "v7.3 no names.mat": lambda p: save_v73(p, published),
        "detectron.pkl": dump(detectron(inclusive, scores)),
        "detectron indexes.pkl": dump(detectron(inclusive, scores, "indexes")),
        "detectron python 2.pkl": dump(detectron(inclusive, scores), 2),
        "detectron2.pkl": dump({**d2, "boxes": boxes, "bbox_mode": 0}),
        "detectron2 sizes.pkl": dump({**d2, "boxes": sized, "bbox_mode": 1}),
        "detectron2 shares.pkl": dump({**d2, "boxes": shares, "bbox_mode": 2}),
        "detectron2 no mode.pkl": dump({**d2, "boxes": boxes}),
        "detectron2 prefixed.pkl": dump(
            {f"proposal_{k}": v for k, v in {**d2, "boxes": boxes, "bbox_mode": 0}.items()}
        ),
        "mmdet.pkl": dump({f"data/VOC2007/JPEGImages/{key}.jpg": r for key, r in zip(KEYS, rows, strict=True)}),
        "mmdet ordered.pkl": dump(OrderedDict(zip(KEYS, boxes, strict=True))),
        "mmdet old.pkl": dump(rows),
        "mmdet lists.pkl": dump([r.tolist() for r in rows]),
        "an array of objects.pkl": dump(dict(zip(KEYS, cells(boxes)[0], strict=True))),
        "columns first.pkl": dump(dict(zip(KEYS, map(np.asfortranarray, boxes), strict=True))),
        "big endian.pkl": dump(dict(zip(KEYS, [b.astype(">f4") for b in boxes], strict=True))),
        **{f"{name}.pkl": how for name, how in dumps_of_every_protocol(dict(zip(KEYS, rows, strict=True))).items()},
        "by image.npz": lambda p: np.savez(p, **dict(zip(KEYS, rows, strict=True))),
        "by image.json": lambda p: p.write_text(json.dumps({k: b.tolist() for k, b in zip(KEYS, sized, strict=True)})),
        "coco results.json": lambda p: p.write_text(
            json.dumps(
                [
                    {"image_id": int(key), "category_id": 1, "bbox": box, "score": 0.5}
                    for key, b in zip(KEYS, sized, strict=True)
                    for box in b.tolist()
                ]
            )
        ),
        "sizes.csv": lambda p: save_csv(p, ["x", "y", "w", "h"], sized),
        "y first.csv": lambda p: save_csv(p, ["ymin", "xmin", "ymax", "xmax"], published),
    }


def save_csv(path, header, rows):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", *header])
        writer.writerows([key, *row] for key, r in zip(KEYS, rows, strict=True) for row in r.tolist())


NAMES = list(layouts([np.zeros((1, 4))] * 3, [np.zeros(1)] * 3))


@pytest.mark.parametrize("name", NAMES)
def test_a_layout_of_another_tool(tmp_path, boxes, scores, name):
    path = tmp_path / name
    layouts(boxes, scores)[name](path)
    found, _, bad = read(path)
    assert_same(found, boxes)
    assert not bad.counts
    if found[0].scores is not None and "coco" not in name:
        assert_same(found, boxes, scores)


def test_a_python_2_pickle(tmp_path):
    """As Python 2 writes it: bytes as text, numpy.core, protocol 0 and 2. Written by hand: no Python 2 is at hand."""
    raw = np.array([[0, 0, 79, 59]], "<f4").tobytes()
    text = "".join(f"\\x{b:02x}" for b in raw)
    content = (
        "(dp0\nS'boxes'\np1\n(lp2\ncnumpy.core.multiarray\n_reconstruct\np3\n(cnumpy\nndarray\np4\n(I0\ntp5\nS'b'\np6\n"
        "tp7\nRp8\n(I1\n(I1\nI4\ntp9\ncnumpy\ndtype\np10\n(S'f4'\np11\nI0\nI1\ntp12\nRp13\n(I3\nS'<'\np14\nNNNI-1\nI-1\n"
        f"I0\ntp15\nbI00\nS'{text}'\np16\ntp17\nbasS'indexes'\np18\n(lp19\nI4\nas."
    )
    path = tmp_path / "old.pkl"
    path.write_bytes(content.encode())
    found, understood, _ = read(path, KEYS[:1], SIZES[:1])
    assert found[0].boxes.tolist() == [[0, 0, 80, 60]]
    assert understood.convention.inclusive


@pytest.mark.parametrize("convention", EIGHT, ids=str)
def test_the_same_boxes_in_eight_conventions_are_the_same(tmp_path, boxes, convention):
    rows = [convention.from_boxes(b, *size) for b, size in zip(boxes, SIZES, strict=True)]
    for ending, save in (
        ("npz", lambda path: np.savez(path, **dict(zip(KEYS, rows, strict=True)))),
        ("mat", lambda path: scipy.io.savemat(path, {"boxes": cells(rows)})),
    ):
        path = tmp_path / f"b.{ending}"
        save(path)
        found, understood, _ = read(path)
        assert understood.convention == convention
        for proposals, expected in zip(found, boxes, strict=True):
            np.testing.assert_array_equal(proposals.boxes, expected)


@pytest.mark.parametrize("scored", [False, True])
@pytest.mark.parametrize("form", FORMATS)
def test_what_is_exported_reads_back(tmp_path, boxes, scores, form, scored):
    fractions = [b * np.float32(0.97) + np.float32(0.25) for b in boxes]
    few = [np.array([[10, 1, 40, 30], [20, 5, 30, 50]], np.float32)] * 3  # at no border, and one y is 1
    for kept in (boxes, fractions, few):
        items = [
            (ImageRecord(key, height, width, "-"), Proposals(b, s[: len(b)] if scored else None))
            for key, (width, height), b, s in zip(KEYS, SIZES, kept, scores, strict=True)
        ]
        ending, write = FORMATS[form]
        path = tmp_path / f"b{ending}"
        path.write_bytes(write(items))
        found, understood, _ = read(path)
        assert set(understood.finding.because.values()) == {"stated"}
        assert_same(found, kept, [s[: len(b)] for s, b in zip(scores, kept, strict=True)] if scored else None)


def test_an_image_without_boxes_goes_out_and_comes_back(tmp_path, boxes):
    items = [
        (ImageRecord(key, height, width, "-"), Proposals(b))
        for key, (width, height), b in zip(KEYS, SIZES, [boxes[0], boxes[1][:0], boxes[2]], strict=True)
    ]
    for form, (ending, write) in FORMATS.items():
        path = tmp_path / f"{form}{ending}"
        path.write_bytes(write(items))
        found, _, _ = read(path, without="empty" if form == "coco" else "error")
        assert [len(p.boxes) for p in found] == [len(boxes[0]), 0, len(boxes[2])]


def test_one_images_mat_and_a_folder_of_them(tmp_path, boxes):
    for key, b in zip(KEYS, boxes, strict=True):
        scipy.io.savemat(tmp_path / f"{key}.mat", {"bboxes": b, "bboxes_scores": np.arange(len(b))[:, None]})
    found, _, _ = read(tmp_path / f"{KEYS[0]}.mat", KEYS[:1], SIZES[:1])
    assert_same(found, boxes)
    assert found[0].scores.tolist() == list(range(len(boxes[0])))
    found, understood, _ = read(tmp_path)
    assert_same(found, boxes)
    assert understood.file.count == 3
    np.save(tmp_path / "000011.npy", boxes[0])
    assert read(tmp_path)[1].unused == ["000011"]


def test_the_published_boxes_of_a_voc_photograph(shared_data):
    """Their owners say: x1 y1 x2 y2 from 0, the last pixel inside. It is found out."""
    path = shared_data / "proposals" / "000004_boxes.mat"
    found, understood, bad = read(path, ["000004"], [(500, 406)])
    assert understood.convention == Convention("xyxy", 0, True)
    assert set(understood.finding.because.values()) == {"detected"}
    assert not bad.counts
    assert len(found[0].boxes) == 2888
    assert found[0].boxes[0].tolist() == [0, 0, 24, 16]
    assert [0, 0, 500, 406] in found[0].boxes.tolist()


def test_another_number_of_images_is_refused_where_only_order_tells(tmp_path, boxes):
    path = tmp_path / "b.pkl"
    path.write_bytes(pickle.dumps(boxes[:2]))
    with pytest.raises(MismatchError, match="boxes of 2 images, without names, but the data set has 3"):
        read(path)


def test_images_without_entry_are_counted(tmp_path, boxes):
    path = tmp_path / "b.npz"
    np.savez(path, **{KEYS[0]: boxes[0]})
    with pytest.raises(MismatchError, match="no boxes for 2 of the 3 images, e.g. '000005'"):
        read(path)
    found, _, _ = read(path, without="empty")
    assert [len(p.boxes) for p in found] == [len(boxes[0]), 0, 0]


BAD = [[5, 5, 5, 9], [9, 9, 3, 3], [-4, 0, 10, 10], [70, 50, 95, 95], [200, 200, 300, 300], [0, 0, np.nan, 5]]


def bad_file(tmp_path, boxes):
    path = tmp_path / "b.npz"
    np.savez(path, **{KEYS[0]: np.concatenate([boxes[0], BAD]), KEYS[1]: boxes[1], KEYS[2]: boxes[2]})
    return path


def test_bad_boxes_are_counted_by_kind_with_an_example(tmp_path, boxes):
    with pytest.raises(FrcnnError) as error:
        read(bad_file(tmp_path, boxes))
    n = len(boxes[0])
    for words in (
        f"1 not finite (000004, box {n + 5}: 0 0 nan 5)",
        f"1 inverted (000004, box {n + 1}: 9 9 3 3)",
        f"1 without area (000004, box {n}: 5 5 5 9)",
        f"3 outside the image (000004, box {n + 2}: -4 0 10 10)",
    ):
        assert words in str(error.value)


def test_bad_boxes_are_dropped_or_clipped_as_asked(tmp_path, boxes):
    path = bad_file(tmp_path, boxes)
    found, _, bad = read(path, on_bad="drop")
    assert_same(found, boxes)
    assert sum(bad.counts.values()) == 6
    found, _, bad = read(path, on_bad="clip")
    assert found[0].boxes[len(boxes[0]) :].tolist() == [[0, 0, 10, 10], [70, 50, 80, 60]]
    assert sum(bad.counts.values()) == 6


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("b.mat", {"boxes": np.zeros((3, 3))}),
        ("b.mat", {"x": np.zeros((3, 4)), "y": np.zeros((3, 4))}),
        ("b.mat", {"boxes": cells([np.zeros((3, 4)), "words"])}),
        ("b.pkl", 3),
        ("b.pkl", {"boxes": [np.zeros((1, 4))], "ids": []}),
        ("b.pkl", {"boxes": 3, "ids": [1]}),
        ("b.pkl", {"boxes": [np.zeros((1, 4))], "ids": [4], "bbox_mode": 4}),
        ("b.pkl", {"000004": ["a", "b"]}),
        ("b.pkl", {"000004": np.array(["a", "b"])}),
        ("b.pkl", {"000004": np.zeros((2, 4), complex)}),
        ("b.pkl", {"000004": [[1, 2, 3], [4]]}),
        ("b.pkl", {"000004": None}),
        ("b.json", [{"image_id": 4, "bbox": 3}]),
        ("b.json", [{"image_id": 4, "bbox": [1, 2]}]),
        ("b.json", [{"image_id": 4, "bbox": [1, 2, 3], "score": 0.5}]),
        ("b.json", [{"image_id": 4, "bbox": [1, 2, 3, 4, 45.0]}]),
    ],
)
def test_what_is_not_boxes_is_said(tmp_path, name, content):
    path = tmp_path / name
    match path.suffix:
        case ".mat":
            scipy.io.savemat(path, content)
        case ".pkl":
            path.write_bytes(pickle.dumps(content))
        case ".json":
            path.write_text(json.dumps(content))
    images = 2 if isinstance(content, dict) and getattr(content.get("boxes"), "dtype", None) == np.dtype(object) else 1
    with pytest.raises(FileFormatError, match=name):
        read(path, KEYS[:images], SIZES[:images])


def test_what_float32_makes_of_a_box_is_what_is_judged(tmp_path):
    path = tmp_path / "b.npz"
    rows = [[10, 10, 10.0000001, 20, 0.5], [0, 0, 20, 20, 1e300], [-0.001, 0, 80.001, 60, 0.5]]
    np.savez(path, **{KEYS[0]: np.array(rows)})
    told = {"order": "xyxy", "base": 0, "inclusive": False, "relative": False}
    found, _, bad = read(path, KEYS[:1], SIZES[:1], on_bad="drop", **told)
    assert bad.counts == {"not finite": 1, "without area": 1}
    assert found[0].boxes.tolist() == [[0, 0, 80, 60]]


@pytest.mark.parametrize(
    "text",
    [
        "filename;xmin;ymin;xmax;ymax;confidence\n000004.jpg;1;2;30,5;40;0.5".replace(",", "."),
        "image_id\tx\ty\twidth\theight\tlabel\n4\t1\t2\t29.5\t38\tcat",
        "score,y2,x2,y1,x1,image\n0.5,40,30.5,2,1,000004",
        "\ufeffimage,cx,cy,w,h\n000004,15.75,21,29.5,38",
    ],
)
def test_tables_as_people_write_them(tmp_path, text):
    path = tmp_path / "b.csv"
    path.write_text(text, encoding="utf-8")
    found, _, _ = read(path, KEYS[:1], SIZES[:1], base=0, inclusive=False)
    assert found[0].boxes.tolist() == [[1, 2, 30.5, 40]]
