"""The boxes on which most hierarchies agree, against a slow count."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frcnn_cli.core.boxes import area, iou
from frcnn_cli.core.errors import UsageError
from frcnn_cli.proposals.selective_search.agreement import agreed_first, support
from frcnn_cli.proposals.selective_search.search import selective_search
from frcnn_cli.proposals.sources.selective_search import SelectiveSearch


def crowd(seed, count, side=60):
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, side, (count, 2))
    boxes = np.concatenate([corners, corners + rng.integers(1, side, (count, 2))], axis=1).astype(np.int32)
    return np.unique(boxes, axis=0), rng


@settings(deadline=None)  # the first call compiles
@given(st.integers(0, 10_000), st.integers(0, 60), st.sampled_from([0.3, 0.5, 0.75, 1.0]))
def test_support_is_the_slow_count(seed, count, threshold):
    boxes, rng = crowd(seed, count)
    boxes = boxes[np.argsort(area(boxes), kind="stable")].astype(np.float64)
    hierarchies = rng.integers(1, 5, len(boxes))
    overlaps = iou(boxes, boxes) if len(boxes) else np.zeros((0, 0))
    expected = ((overlaps >= threshold) * hierarchies[None, :]).sum(axis=1)
    assert support(boxes, area(boxes).astype(np.float64), hierarchies, threshold).tolist() == expected.tolist()


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 60), st.integers(0, 70))
def test_every_box_stays_and_the_first_are_distinct(seed, count, first):
    boxes, rng = crowd(seed, count)
    order = agreed_first(boxes, rng.integers(1, 5, len(boxes)), first)
    assert sorted(order.tolist()) == list(range(len(boxes)))
    moved = next((i for i in range(1, len(order)) if (np.diff(order[i:]) > 0).all()), len(order))
    top = boxes[order[: min(moved, first)]].astype(np.float64)
    overlaps = iou(top, top) - np.eye(len(top)) if len(top) else np.zeros((0, 0))
    assert overlaps.max(initial=0) <= 0.7
    if first == 0:
        assert order.tolist() == list(range(len(boxes)))


def test_what_most_hierarchies_contain_comes_first():
    boxes = np.array([[0, 0, 99, 99], [10, 10, 40, 40], [50, 10, 90, 50], [11, 10, 40, 40], [0, 0, 9, 99]], np.int32)
    hierarchies = np.array([1, 3, 1, 2, 9])
    order = agreed_first(boxes, hierarchies, 2)
    assert order.tolist() == [1, 0, 2, 3, 4]  # 3 is nearly 1; 4 is too narrow; 0 is larger than 2


def test_a_search_without_agreement_has_the_same_boxes():
    rng = np.random.default_rng(0)
    pixels = np.full((60, 80, 3), 90, np.uint8)
    pixels[10:40, 20:50] = (200, 30, 60)
    pixels = np.clip(pixels + rng.integers(-9, 9, pixels.shape), 0, 255).astype(np.uint8)
    some, none = (
        selective_search(pixels, ["hsv", "lab"], (50, 100), ["CTSF", "F"], 0.8, 20, 1.0, count, 0) for count in (9, 0)
    )
    assert not np.array_equal(some, none)
    assert np.array_equal(np.unique(some, axis=0), np.unique(none, axis=0))


def test_a_model_of_version_1_gets_the_boxes_of_version_1():
    """The presets of version 1, which had no ranking by agreement."""
    for preset, colours in (("fast", ("hsv", "lab")), ("quality", ("hsv", "lab", "rgb"))):
        options = SelectiveSearch.restated("1", {"preset": preset, "k": None, "sigma": 0.8, "distinct": 0.5})
        source = SelectiveSearch.configured(options)
        assert (source.colours, source.agreed, source.distinct, source.sigma) == (colours, 0, 0.5, 0.8)
        assert source.k == ((100, 300) if preset == "fast" else (100, 200, 300))
    assert SelectiveSearch.restated("0", {}) is None
    with pytest.raises(UsageError, match="preset"):
        SelectiveSearch.configured(SelectiveSearch.restated("1", {"preset": "other"}))
