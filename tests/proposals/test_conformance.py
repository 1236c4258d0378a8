"""The kit passes what is right and fails every kind of wrong."""

import numpy as np
import pytest

from frcnn_cli.core.image import Image
from frcnn_cli.proposals.source import Proposals
from frcnn_cli.proposals.sources.file import FileSource
from frcnn_cli.proposals.sources.opencv import OpenCVSelectiveSearch
from frcnn_cli.proposals.sources.selective_search import SelectiveSearch
from frcnn_cli.testing import check_proposal_source, test_images
from tests.proposals.sources_for_tests import BROKEN, Good, breaking, whole


@pytest.mark.parametrize("mode", ["fast", "quality", "single"])
def test_opencv_selective_search(mode):
    check_proposal_source(OpenCVSelectiveSearch(mode=mode))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"preset": "quality"},
        {"max_pixels": 500},
        {"colours": ("hue",), "k": (1, 1000), "mixes": ("F",), "sigma": 0.0, "min_region": 1, "distinct": 1.0},
    ],
    ids=str,
)
def test_selective_search(options):
    check_proposal_source(SelectiveSearch(**options))


def test_a_large_image_is_searched_smaller_and_its_boxes_fit():
    small = next(iter(test_images()))
    large = Image.from_array(small.pixels.repeat(8, axis=0).repeat(8, axis=1))
    every = {"k": (50,), "distinct": 1.0}
    found = SelectiveSearch(max_pixels=small.height * small.width, **every).propose(large).boxes
    expected = SelectiveSearch(**every).propose(small).boxes * 8
    assert set(map(tuple, found.tolist())) == set(map(tuple, expected.tolist()))
    assert len(SelectiveSearch(max_pixels=0, **every).propose(large).boxes) != len(found)


def test_the_file_source(tmp_path):
    rows = [f"{image.key},0,0,{image.width},{image.height},0.5" for image in test_images()]
    path = tmp_path / "boxes.csv"
    path.write_text("\n".join(["image,x1,y1,x2,y2,score", *rows]))
    check_proposal_source(FileSource(path))


def test_right_sources_pass():
    check_proposal_source(Good())
    check_proposal_source(breaking(whole))


@pytest.mark.parametrize("how", BROKEN)
def test_wrong_sources_fail(how):
    propose, words = BROKEN[how]
    with pytest.raises(AssertionError, match=words):
        check_proposal_source(breaking(propose))


def test_a_source_that_cannot_go_to_a_worker_fails():
    class Local(Good):
        pass

    with pytest.raises(AssertionError, match="cannot be sent to a worker process"):
        check_proposal_source(Local())


def test_scores_are_for_all_images_or_for_none():
    def sometimes(image):
        scores = np.ones(1, np.float32) if image.width > 100 else None
        return Proposals(whole(image), scores)

    with pytest.raises(AssertionError, match="scores for some images and none for others"):
        check_proposal_source(breaking(sometimes))
