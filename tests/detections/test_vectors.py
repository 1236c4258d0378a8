"""The formats of vectors: what is written is read back, and what is no such file is refused in one line."""

import base64
import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frcnn_cli.core.errors import FileFormatError
from frcnn_cli.detections.vectors.box_vectors import BoxVectors, checked_key, from_columns, to_columns
from frcnn_cli.detections.vectors.formats import VECTOR_FORMATS
from frcnn_cli.detections.vectors.tsv import read_bottom_up, read_lxmert


def some(count=3, length=5, key="a", dtype=np.float32, labels=True):
    rng = np.random.default_rng(count)
    boxes = rng.uniform(0, 100, (count, 4)).astype(np.float32)
    vectors = rng.normal(size=(count, length)).astype(dtype)
    if not labels:
        return BoxVectors(key, 120, 160, boxes, vectors)
    return BoxVectors(key, 120, 160, boxes, vectors, np.arange(count), rng.uniform(size=count).astype(np.float32))


@pytest.mark.parametrize("name", VECTOR_FORMATS)
def test_there_and_back(name, tmp_path):
    """Keys with folders, one box, and no boxes."""
    images = [some(3, key="a"), some(1, key="folder/b"), some(36, 7, key="9")]
    images += [some(0, 7, key="none")] if name != "folders" else []
    form = VECTOR_FORMATS[name]
    assert form.write(images, tmp_path / "out") == len(images)
    again = {image.key: image for image in form.read(tmp_path / "out")}
    assert again.keys() == {image.key for image in images}
    for image in images:
        found = again[image.key]
        np.testing.assert_array_equal(found.boxes, image.boxes)
        if len(image):
            np.testing.assert_array_equal(found.vectors, image.vectors)
        if name != "folders":
            assert (found.height, found.width) == (120, 160)
        if name in ("lxmert", "npz"):
            np.testing.assert_array_equal(found.labels, image.labels)
            np.testing.assert_array_equal(found.scores, image.scores)


@pytest.mark.parametrize("name", VECTOR_FORMATS)
def test_half_precision(name, tmp_path):
    image = some(dtype=np.float16)
    VECTOR_FORMATS[name].write([image], tmp_path / "out")
    (again,) = VECTOR_FORMATS[name].read(tmp_path / "out")
    np.testing.assert_array_equal(again.vectors.astype(np.float16), image.vectors)
    assert again.vectors.dtype == (np.float32 if name in ("bottom-up", "lxmert") else np.float16)


def test_bottom_up_is_what_its_readers_expect(tmp_path):
    """No header; the fields of tools/read_tsv.py, with base64 of float32."""
    image = some(2, 3)
    VECTOR_FORMATS["bottom-up"].write([image], tmp_path / "x.tsv")
    (line,) = (tmp_path / "x.tsv").read_text().splitlines()
    key, width, height, count, boxes, vectors = line.split("\t")
    assert (key, width, height, count) == ("a", "160", "120", "2")
    assert np.frombuffer(base64.decodebytes(boxes.encode()), np.float32).reshape(2, -1).tolist() == image.boxes.tolist()
    decoded = np.frombuffer(base64.decodebytes(vectors.encode()), np.float32).reshape(2, -1)
    assert decoded.tolist() == image.vectors.tolist()


def test_lxmert_is_what_its_readers_expect(tmp_path):
    """The fields and dtypes of LXMERT's src/utils.py."""
    image = some(2, 3)
    VECTOR_FORMATS["lxmert"].write([image], tmp_path / "x.tsv")
    (line,) = (tmp_path / "x.tsv").read_text().splitlines()
    fields = ["img_id", "img_h", "img_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf"]
    fields += ["num_boxes", "boxes", "features"]
    item = dict(zip(fields, line.split("\t"), strict=True))
    boxes = int(item["num_boxes"])
    shapes = {
        "objects_id": ((boxes,), np.int64),
        "objects_conf": ((boxes,), np.float32),
        "attrs_id": ((boxes,), np.int64),
        "attrs_conf": ((boxes,), np.float32),
        "boxes": ((boxes, 4), np.float32),
        "features": ((boxes, -1), np.float32),
    }
    read = {key: np.frombuffer(base64.b64decode(item[key]), kind).reshape(s) for key, (s, kind) in shapes.items()}
    assert read["objects_id"].tolist() == [0, 1]
    assert not read["attrs_id"].any()
    np.testing.assert_array_equal(read["features"], image.vectors)


def line(*fields):
    return ("\t".join(map(str, fields)) + "\n").encode()


def b64(*values, kind=np.float32):
    return base64.b64encode(np.array(values, kind).tobytes()).decode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\t1\t2\n", "line 1 has 3 fields, not 6"),
        (line("a", 10, 10, 1, b64(1, 2, 3, 4), b64(1, 2))[:-3], "is truncated"),
        (line("a", 10, 10, 1, b64(1, 2, 3), b64(1, 2)), "holds 3 numbers where 4 are expected"),
        (line("a", 10, 10, 2, b64(*range(8)), b64(1, 2, 3)), "holds 3 numbers for 2 boxes"),
        (line("a", 10, 10, 0, "", b64(1)), "holds 1 numbers for 0 boxes"),
        (line("a", 10, 10, "x", "", ""), "num_boxes is 'x'"),
        (line("a", 10, 10, -1, "", ""), "num_boxes is -1"),
        (line("a", 10, 10, 10**7, "", ""), "states 10000000 boxes"),
        (line("a", 10, 10, 1, "!!!", ""), "is not base64"),
        (line("a", 10, 10, 1, b64(1, 2, 3, 4), b64(np.nan)), "holds NaN"),
        (line("", 10, 10, 1, b64(1, 2, 3, 4), b64(1)), "names an image ''"),
        (b"\xff\xfe\t1\t1\t0\t\t\n", "is not text"),
    ],
)
def test_damaged_lines(content, message, tmp_path):
    good = line("good", 10, 10, 1, b64(1, 2, 3, 4), b64(1, 2))
    (tmp_path / "x.tsv").write_bytes(good + content.replace(b"line 1", b"line 2"))
    with pytest.raises(FileFormatError, match=message.replace("line 1", "line 2")):
        list(read_bottom_up(tmp_path / "x.tsv"))


@given(st.binary(max_size=300))
def test_noise_is_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("noise") / "x.tsv"
    path.write_bytes(content)
    for read in (read_bottom_up, read_lxmert):
        with contextlib.suppress(FileFormatError):
            assert list(read(path)) == [] or b"\t" in content


def test_arrays_that_are_not_vectors(tmp_path):
    npz = VECTOR_FORMATS["npz"].read
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 3)), bbox=np.zeros((3, 4)))
    with pytest.raises(FileFormatError, match="does not hold boxes and their vectors|not numbers with"):
        list(npz(tmp_path))
    np.savez(tmp_path / "a.npz", x=np.array([object()]), bbox=np.zeros((1, 4)))
    with pytest.raises(FileFormatError, match="is not an .npz file|cannot be read"):
        list(npz(tmp_path))
    np.savez(tmp_path / "a.npz", y=np.zeros(1))
    with pytest.raises(FileFormatError, match="has no array 'bbox'"):
        list(npz(tmp_path))
    (tmp_path / "a.npz").write_bytes(b"nonsense")
    with pytest.raises(FileFormatError, match="is not an .npz file|cannot be read"):
        list(npz(tmp_path))
    np.savez(tmp_path / "a.npz", x=np.full((1, 3), np.nan), bbox=np.zeros((1, 4)))
    with pytest.raises(FileFormatError, match="holds NaN, or numbers too large"):
        list(npz(tmp_path))


def test_columns_and_back():
    for image in (some(3), some(3, labels=False), some(0)):
        again = from_columns(to_columns(image), image.key, image.height, image.width)
        for name in ("boxes", "vectors", "labels", "scores", "proposals"):
            one, other = getattr(again, name), getattr(image, name)
            assert (one is None) == (other is None)
            np.testing.assert_array_equal(one, other)


def test_arrays_of_other_lengths():
    with pytest.raises(ValueError, match="boxes"):
        BoxVectors("a", 1, 1, np.zeros((2, 4), np.float32), np.zeros((3, 5), np.float32))
    with pytest.raises(ValueError, match="labels"):
        BoxVectors("a", 1, 1, np.zeros((2, 4), np.float32), np.zeros((2, 5), np.float32), np.zeros(1, np.int64))


@pytest.mark.parametrize("key", ["", " ", "a\nb", "a\tb"])
def test_keys_that_are_none(key):
    with pytest.raises(FileFormatError, match="names an image"):
        checked_key(key, "x.tsv")


@pytest.mark.parametrize("key", ["..", "../x", "a/../../b", "a\\..\\..\\b", "/"])
@pytest.mark.parametrize("name", ["npz", "folders"])
def test_keys_that_lead_out_of_the_folder(key, name, tmp_path):
    with pytest.raises(FileFormatError, match="cannot be the name of a file"):
        VECTOR_FORMATS[name].write([some(1, key=key)], tmp_path / "a/b/out")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_absolute_keys_become_files_below_the_folder(tmp_path):
    """Images of @list.txt have absolute paths as keys."""
    VECTOR_FORMATS["npz"].write([some(1, key="/data/a.jpg")], tmp_path / "out")
    assert [image.key for image in VECTOR_FORMATS["npz"].read(tmp_path / "out")] == ["data/a.jpg"]
