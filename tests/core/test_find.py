from pathlib import Path

import pytest

from frcnn_cli.core.errors import DataError
from frcnn_cli.core.find import find_images


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_folders_are_searched_and_keys_are_paths_below_them(tmp_path):
    touch(tmp_path / "b.JPG", tmp_path / "sub/a.png", tmp_path / "sub/notes.txt", tmp_path / ".hidden.jpg")
    assert [ref.key for ref in find_images([str(tmp_path)])] == ["b.JPG", "sub/a.png"]


def test_a_file_goes_by_its_name_whatever_its_ending(tmp_path):
    assert [ref.key for ref in find_images([str(tmp_path / "odd.xyz")])] == ["odd.xyz"]


def test_the_order_of_inputs_does_not_matter(tmp_path):
    touch(tmp_path / "a.jpg", tmp_path / "b.jpg", tmp_path / "c.jpg")
    names = [str(tmp_path / name) for name in ("c.jpg", "a.jpg", "b.jpg")]
    assert find_images(names) == find_images(sorted(names)) == find_images([str(tmp_path)])


def test_the_same_file_twice_is_one_image(tmp_path):
    touch(tmp_path / "a.jpg")
    assert len(find_images([str(tmp_path / "a.jpg"), str(tmp_path)])) == 1


def test_a_shared_key_becomes_the_path_as_typed(tmp_path):
    touch(tmp_path / "x/1.jpg", tmp_path / "y/1.jpg", tmp_path / "y/2.jpg")
    keys = [ref.key for ref in find_images([str(tmp_path / "x"), str(tmp_path / "y")])]
    assert keys == sorted([str(tmp_path / "x/1.jpg"), str(tmp_path / "y/1.jpg"), "2.jpg"])


def test_no_two_images_share_a_key(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(Path("a.png"), Path("d/a.png"), Path("e/d/a.png"))
    refs = find_images(["a.png", "d/a.png", "e"])
    assert len({ref.key for ref in refs}) == len({ref.path for ref in refs}) == 3


def test_a_file_named_in_two_ways_has_one_key_in_any_order(tmp_path):
    touch(tmp_path / "nest/sub/1.png")
    arguments = [str(tmp_path / "nest"), str(tmp_path / "nest/sub/1.png")]
    assert find_images(arguments) == find_images(arguments[::-1])
    assert [ref.key for ref in find_images(arguments)] == ["sub/1.png"]


def test_a_name_that_is_not_utf8_becomes_one_that_is(tmp_path):
    import os

    with open(os.fsencode(tmp_path) + b"/\xff.png", "wb"):
        pass
    (ref,) = find_images([str(tmp_path)])
    assert ref.key == "\\xff.png"
    assert ref.path.exists()


def test_a_list_is_relative_to_its_own_folder(tmp_path):
    touch(tmp_path / "pictures/a.jpg")
    (tmp_path / "list.txt").write_text("# mine\npictures/a.jpg\n\n")
    (ref,) = find_images([f"@{tmp_path}/list.txt"])
    assert (ref.key, ref.path) == ("pictures/a.jpg", tmp_path / "pictures/a.jpg")


def test_empty_folders_and_bad_lists_are_refused(tmp_path):
    with pytest.raises(DataError, match="holds no images"):
        find_images([str(tmp_path)])
    with pytest.raises(DataError, match="cannot be read"):
        find_images([f"@{tmp_path}/none.txt"])
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(DataError, match="is empty"):
        find_images([f"@{tmp_path}/empty.txt"])
