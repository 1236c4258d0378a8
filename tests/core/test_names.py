"""Files found by the names that other tools wrote."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from frcnn_cli.core.decoding import FORMATS, IMAGE_ENDINGS
from frcnn_cli.core.names import AmbiguousNameError, FileNames, stem

FILES = FileNames(
    ["train/a.jpg", "val/a.jpg", "b.JPG", "v1.2.png", "caf\u00e9.jpg", "deadbeef-x.jpg", "only/deep/c.png"]
)


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("train/a.jpg", "train/a.jpg"),
        ("./train/a.jpg", "train/a.jpg"),
        (r"C:\Users\me\val\a.jpg", "val/a.jpg"),
        ("/home/me/data/train/a.jpg", "train/a.jpg"),
        ("https://host/bucket/val/a.jpg?token=1", "val/a.jpg"),
        ("gs://bucket/val/a.jpg", "val/a.jpg"),
        ("file:///x/c%2Epng", "only/deep/c.png"),
        ("b.jpg", "b.JPG"),
        ("b", "b.JPG"),
        ("v1.2", "v1.2.png"),
        ("cafe\u0301.jpg", "caf\u00e9.jpg"),  # as macOS writes it
        ("/data/upload/3/4f3a12bc-c.png", "only/deep/c.png"),
        ("4f3a-c.png", "only/deep/c.png"),
        ("/data/local-files/?d=pets/only/deep/c.png", "only/deep/c.png"),
        ("deadbeef-x.jpg", "deadbeef-x.jpg"),
        ("other/c.png", "only/deep/c.png"),
        ("c.jpg", None),  # another picture, perhaps
        ("d.png", None),
        ("", None),
    ],
)
def test_found(written, found):
    assert FILES.find(written) == found


def test_a_name_that_could_be_two():
    with pytest.raises(AmbiguousNameError, match="'a.jpg' could be train/a.jpg or val/a.jpg"):
        FILES.find("a.jpg")
    with pytest.raises(AmbiguousNameError):
        FILES.find("other/a.jpg")
    assert FILES.find("test/a.jpg") is None  # neither of train, nor of val


def test_a_year_is_no_prefix_of_an_upload():
    assert FileNames(["000123.jpg"]).find("2008-000123.jpg") is None
    assert FileNames(["old/a.jpg"]).find("./b/a.jpg") == "old/a.jpg"
    assert FileNames(["x/AB.jpg", "y/ab.jpg"]).find("z/ab.jpg") == "y/ab.jpg"


def test_keys_without_endings():
    assert FileNames(["000001", "img 1"]).find("JPEGImages/000001.jpg") == "000001"
    assert FileNames(["000001", "img 1"]).find("img 1.png") == "img 1"


_PARTS = st.text("ab.", min_size=1, max_size=4).filter(lambda part: set(part) != {"."})


@given(st.lists(st.lists(_PARTS, min_size=1, max_size=3).map("/".join), unique=True, min_size=1, max_size=6))
def test_every_file_is_found_by_its_own_path_on_any_machine(paths):
    files = FileNames(paths)
    for path in paths:
        assert files.find(path) == path
        assert files.find("C:\\x y\\" + path.replace("/", "\\")) == path


def test_the_endings_are_those_of_the_decoder():
    registered = Pillow.registered_extensions()
    assert {ending for ending, name in registered.items() if name in FORMATS} == IMAGE_ENDINGS
    assert [stem(name) for name in ("a.jpg", "v1.2", "x.TIFF", "n")] == ["a", "v1.2", "x", "n"]
