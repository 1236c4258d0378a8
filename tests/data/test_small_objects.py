"""Advice on options that cost small objects."""

import numpy as np
import pytest

from frcnn_cli.core.annotations import GroundTruth
from frcnn_cli.core.image import ImageRecord
from frcnn_cli.data.small_objects import advice_on_floor, advice_on_small_objects


def truth(*sides, difficult=False):
    boxes = np.array([[5, 5, 5 + side, 205] for side in sides], np.float32).reshape(-1, 4)
    return GroundTruth(boxes, np.zeros(len(boxes), np.int64), np.full(len(boxes), difficult))


def provenance(min_size=20.0, **options):
    return {"min_size": min_size, "source": {"name": "selective-search", "version": "2", "options": options}}


IMAGE = ImageRecord("a.jpg", 480, 640, "0")
HUGE = ImageRecord("b.jpg", 4000, 4000, "1")


def test_objects_below_the_smallest_proposals_are_counted():
    (advice,) = advice_on_small_objects([truth(10, 12, 30), truth(50)], [IMAGE, IMAGE], provenance())
    assert advice.what == "50% of the objects are narrower than 20 px, the minimum size of proposals"
    assert advice.fix == "add --min-size 10 to frcnn proposals"
    assert advice_on_small_objects([truth(10, 12, 30)], [IMAGE], provenance(min_size=8)) == []


@pytest.mark.parametrize("percent", [2, 3, 5, 10])
def test_any_share_from_two_percent_gives_advice(percent):
    (advice,) = advice_on_floor([np.array([10.0] * percent + [50.0] * (100 - percent))], 20)
    assert advice.what.startswith(f"{percent}% of the objects")
    assert advice.fix == "add --min-size 10 to frcnn proposals"


def test_few_or_difficult_or_no_objects_give_no_advice():
    assert advice_on_small_objects([truth(*[50] * 99, 10)], [IMAGE], provenance()) == []
    assert advice_on_small_objects([truth(10, difficult=True), truth(40)], [IMAGE, IMAGE], provenance()) == []
    assert advice_on_small_objects([truth()], [IMAGE], provenance()) == []
    assert advice_on_floor([], 20) == []


def test_scaling_for_the_search_is_noticed():
    (advice,) = advice_on_small_objects([truth(24, 90)], [HUGE], provenance(max_pixels=1_000_000))
    assert advice.what.startswith("50% of the objects are narrower than 10 px in the image that selective search reads")
    assert advice.fix == "add --set max_pixels=0 to frcnn proposals"
    for kept in (0, 16_000_000, None):
        assert advice_on_small_objects([truth(24, 90)], [HUGE], provenance(max_pixels=kept)) == []


def test_resizing_for_the_network_is_noticed():
    (advice,) = advice_on_small_objects([truth(24, 900)], [HUGE], provenance(), lambda height, width: 600 / height)
    assert "in the resized image that the network reads" in advice.what
    assert advice.fix == "raise --short-side and --long-side"
    assert advice_on_small_objects([truth(24, 90)], [IMAGE], provenance(), lambda height, width: 600 / height) == []


def test_a_source_without_options_is_understood():
    assert advice_on_small_objects([truth(40)], [IMAGE], {"min_size": 1.0, "source": {"name": "file"}}) == []
