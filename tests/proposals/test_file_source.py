"""Boxes from files: every format gives the same, and hostile files end in one line."""

import json
import pickle
import warnings
import zipfile

import numpy as np
import pytest

from frcnn_cli.core.decoding import read_image
from frcnn_cli.core.errors import FileFormatError, MismatchError, UsageError
from frcnn_cli.proposals.registry import load_registry
from frcnn_cli.proposals.sources.file import FileSource
from frcnn_cli.store.schema import PROPOSALS
from frcnn_cli.store.writer import StageWriter

BOXES = np.array([[0, 0, 80, 60], [10.5, 5, 40, 30]], np.float32)
SCORES = np.array([0.25, 0.75], np.float32)


def write(path, image, boxes=BOXES, scores=SCORES, key=None):
    key = key or image.key
    rows = np.concatenate([boxes, scores[:, None]], axis=1)
    match path.suffix:
        case ".h5":
            with StageWriter(path, PROPOSALS, {"source": {}, "max_boxes": 9, "min_size": 1}) as out:
                out.add(image.record, {"boxes": boxes, "scores": scores})
                out.finish()
        case ".npz":
            np.savez_compressed(path, **{key: rows})
        case ".csv":
            lines = [",".join([key, *map(str, row)]) for row in rows.tolist()]
            path.write_text("\n".join(["image,x1,y1,x2,y2,score", *lines]))
        case ".json":
            path.write_text(json.dumps({key: rows.tolist()}))
    return path


@pytest.mark.parametrize("ending", [".h5", ".npz", ".csv", ".json"])
def test_every_format_gives_the_same_boxes(tmp_path, photo, ending):
    image = read_image(photo)
    found = FileSource(write(tmp_path / f"b{ending}", image)).propose(image)
    np.testing.assert_array_equal(found.boxes, BOXES)
    np.testing.assert_array_equal(found.scores, SCORES)
    assert found.boxes.dtype == found.scores.dtype == np.float32


@pytest.mark.parametrize("ending", [".npz", ".csv", ".json"])
def test_an_entry_is_the_images_if_its_key_ends_so(tmp_path, photo, ending):
    image = read_image(photo, key="some/folder/photo.png")
    for key in ("photo", "photo.png", "folder/photo", "some/folder/photo.png", str(photo)):
        path = tmp_path / f"{key.replace('/', '_')}{ending}"
        assert len(FileSource(write(path, image, key=key)).propose(image).boxes) == 2
    other = FileSource(write(tmp_path / f"other{ending}", image, key="other/photo.png"))
    with pytest.raises(MismatchError, match="no boxes for image 'some/folder/photo.png'"):
        other.propose(image)


def test_an_archive_with_two_members_of_one_name(tmp_path, photo):
    """What is checked is what is read."""
    import io

    good = io.BytesIO()
    np.lib.format.write_array(good, BOXES)
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("photo", pickle.dumps(Evil()))
        archive.writestr("photo.npy", good.getvalue())
    np.testing.assert_array_equal(FileSource(tmp_path / "b.npz").propose(read_image(photo)).boxes, BOXES)


def test_a_damaged_file_is_said_once_before_the_run(tmp_path):
    (tmp_path / "b.json").write_text("not json")
    with pytest.raises(FileFormatError, match="not JSON"):
        FileSource(tmp_path / "b.json").prepare()


def test_another_content_is_another_source(tmp_path):
    path = tmp_path / "b.json"
    path.write_text("{}")
    before = FileSource(path).described()
    path.write_text('{"a": []}')
    assert FileSource(path).described() != before


@pytest.mark.parametrize("ending", [".h5", ".npz", ".csv", ".json"])
def test_an_image_that_is_not_there_is_named(tmp_path, photo, ending):
    image = read_image(photo)
    path = write(tmp_path / f"b{ending}", image, key="elsewhere")
    pixels = np.zeros((60, 80, 3), np.uint8)
    other = type(image).from_array(pixels, "stranger")
    with pytest.raises(MismatchError, match="no boxes for image 'stranger'"):
        FileSource(path).propose(other)


def test_another_picture_under_the_same_name_is_refused(tmp_path, photo):
    image = read_image(photo)
    path = write(tmp_path / "b.h5", image)
    other = type(image).from_array(np.zeros((60, 80, 3), np.uint8), image.key)
    with pytest.raises(MismatchError, match="differs in content"):
        FileSource(path).propose(other)


@pytest.mark.parametrize("box", [[0, 0, 81, 60], [-1, 0, 5, 5], [30, 0, 20, 5], [0, np.nan, 5, 5]])
@pytest.mark.parametrize("ending", [".npz", ".csv", ".json"])
def test_boxes_outside_or_inverted_are_refused(tmp_path, photo, ending, box):
    image = read_image(photo)
    path = write(tmp_path / f"b{ending}", image, boxes=np.array([BOXES[0], box], np.float32))
    with pytest.raises(FileFormatError, match="1 (outside the image|inverted|not finite) .*box 1"):
        FileSource(path).propose(image)


def test_an_image_without_boxes(tmp_path, photo):
    image = read_image(photo)
    (tmp_path / "b.json").write_text('{"photo": []}')
    (tmp_path / "b.csv").write_text("image,x1,y1,x2,y2\nphoto,,,,\n")
    np.savez(tmp_path / "b.npz", photo=np.zeros((0, 4)))
    for ending in ("json", "csv", "npz"):
        assert FileSource(tmp_path / f"b.{ending}").propose(image).boxes.shape == (0, 4)


class Evil:
    def __reduce__(self):
        return (open, ("/tmp/frcnn-was-here", "w"))


def hostile(name, path):
    match name:
        case "a pickle in an npz":
            np.savez(path, photo=np.array([Evil()], dtype=object))
        case "a bare pickle":
            path.write_bytes(pickle.dumps(Evil()))
        case "a bomb":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                header = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f8', 'fortran_order': False, 'shape': (%d, 4), }"
                archive.writestr("photo.npy", (header % 10**12).ljust(127) + b"\n" + bytes(10_000))
        case "an npz of words":
            np.savez(path, photo=np.array([["a", "b", "c", "d"]]))
        case "half a zip":
            np.savez(path, photo=BOXES)
            path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize("name", ["a pickle in an npz", "a bare pickle", "a bomb", "an npz of words", "half a zip"])
def test_hostile_npz_files_run_nothing_and_end_in_one_line(tmp_path, photo, name):
    from pathlib import Path

    mark = Path("/tmp/frcnn-was-here")
    mark.unlink(missing_ok=True)
    path = tmp_path / "b.npz"
    hostile(name, path)
    with pytest.raises(FileFormatError, match=r"b\.npz"):
        FileSource(path).propose(read_image(photo))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("b.json", "[" * 100_000),
        ("b.json", "[1, 2]"),
        ("b.json", '{"photo": [[1, 2], [1]]}'),
        ("b.json", '{"photo": {"a": 1}}'),
        ("b.json", "not json"),
        ("b.csv", "x1,y1,x2,y2\n1,2,3,4"),
        ("b.csv", ""),
        ("b.csv", "image,x1,y1,x2,y2\nphoto,1,2,3"),
        ("b.csv", "image,x1,y1,x2,y2\nphoto,1,2,3,four"),
        ("b.csv", "image,x1,y1,x2,y2\n\xff\xfe"),
    ],
)
def test_malformed_text_files_are_named(tmp_path, photo, name, content):
    path = tmp_path / name
    path.write_bytes(content.encode("latin1"))
    with pytest.raises(FileFormatError, match=name.replace(".", r"\.")):
        FileSource(path).propose(read_image(photo))


def test_the_path_is_checked_before_any_work(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        FileSource.configured({"path": str(tmp_path / "none.csv")})
    (tmp_path / "boxes.xls").touch()
    with pytest.raises(UsageError, match="does not end in"):
        FileSource.configured({"path": str(tmp_path / "boxes.xls")})


def test_a_restored_source_notices_other_boxes(tmp_path):
    from frcnn_cli.core.errors import FrcnnWarning

    path = tmp_path / "boxes.csv"
    path.write_text("image,x1,y1,x2,y2\na,1,2,30,40\n")
    recorded = FileSource(path).described()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_registry().restored(json.loads(json.dumps(recorded)))
    path.write_text("image,x1,y1,x2,y2\na,1,2,30,41\n")
    with pytest.warns(FrcnnWarning, match=r"the box file .*boxes\.csv has changed since"):
        load_registry().restored(recorded)
