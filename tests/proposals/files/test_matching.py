from pathlib import Path

import pytest

from frcnn_cli.core.errors import MismatchError
from frcnn_cli.core.image import ImageRef
from frcnn_cli.proposals.box_files.matching import match


def refs(*keys):
    return [ImageRef(key, Path("/here/images") / key) for key in keys]


@pytest.mark.parametrize(
    ("names", "keys", "expected"),
    [
        (["b", "a"], ["a", "b"], [1, 0]),
        (["a.jpg", "b.png"], ["b", "a"], [1, 0]),
        (["x/1.jpg", "y/1.jpg"], ["y/1.jpg", "x/1.jpg"], [1, 0]),
        (["1.jpg", "y/1.jpg"], ["y/1.jpg", "x/1.jpg"], [1, 0]),
        (["/there/data/000004.jpg", "/there/data/000012.jpg"], ["000012", "000004"], [1, 0]),
        (["4", "12"], ["000012", "000004"], [1, 0]),
        (["42"], ["COCO_val2014_000000000042.jpg"], [0]),
        (["a"], ["a", "b"], [0, None]),
        ([r"C:\data\7.jpg"], ["7.jpg"], [0]),
    ],
)
def test_entries_are_found(names, keys, expected):
    assert match(names, refs(*keys))[0] == expected


@pytest.mark.parametrize(
    ("names", "keys", "word"),
    [
        (["elsewhere"], ["a"], "none of its 1 entries"),
        (["1.jpg"], ["x/1.jpg", "y/1.jpg"], "matches 2 images"),
        (["train_001", "train_002"], ["test_001.jpg", "test_002.jpg"], "none of its 2 entries"),
        (["0", "1"], ["BloodImage_00000", "BloodImage_00001"], "none of its 2 entries"),
        (["/p/1.jpg", "/q/1.jpg"], ["1.jpg", "2.jpg"], "none of its 2"),
        ([], ["a"], "none of its 0"),
    ],
)
def test_what_is_not_sure_is_refused(names, keys, word):
    with pytest.raises(MismatchError, match=word):
        match(names, refs(*keys))
