"""Reading the four numbers of a box: every convention there and back, and found out from the boxes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frcnn_cli.core.annotations import GroundTruth
from frcnn_cli.core.convention import ORDERS, OURS, Convention, Entry, detect_convention

EIGHT = [
    Convention("xyxy"),
    Convention("xyxy", inclusive=True),
    Convention("xyxy", base=1, inclusive=True),
    Convention("yxyx"),
    Convention("yxyx", base=1, inclusive=True),
    Convention("xywh"),
    Convention("xywh", base=1),
    Convention("xyxy", relative=True),
]
MORE = [Convention("yxhw"), Convention("cxcywh"), Convention("yxyx", inclusive=True), Convention("xywh", relative=True)]


def some_boxes(rng, width, height, count=30):
    """Whole-numbered boxes, the whole image among them."""
    x = np.sort(rng.choice(width + 1, (count, 2)), axis=1)
    y = np.sort(rng.choice(height + 1, (count, 2)), axis=1)
    boxes = np.stack([x[:, 0], y[:, 0], x[:, 1] + (x[:, 0] == x[:, 1]), y[:, 1] + (y[:, 0] == y[:, 1])], axis=1)
    boxes = np.minimum(boxes, [width, height, width, height])
    boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)]
    return np.concatenate([[[0, 0, width, height]], boxes]).astype(np.float64)


def written(convention, seed=0, sizes=((80, 60), (50, 90), (64, 64))):
    rng = np.random.default_rng(seed)
    for width, height in sizes:
        boxes = some_boxes(rng, width, height)
        yield boxes, Entry(convention.from_boxes(boxes, width, height), width, height)


@pytest.mark.parametrize("convention", EIGHT + MORE, ids=str)
def test_the_convention_is_found_and_the_boxes_are_the_same(convention):
    boxes, entries = zip(*written(convention), strict=True)
    found, because = detect_convention(entries, {})
    assert found == convention
    relative = convention.relative  # shares of the image do not tell its width from its height
    assert because == dict.fromkeys(because, "detected") | ({"order": "assumed"} if relative else {})
    for expected, entry in zip(boxes, entries, strict=True):
        np.testing.assert_allclose(found.to_boxes(entry.rows, entry.width, entry.height), expected, atol=1e-9)


@given(
    st.builds(Convention, st.sampled_from(ORDERS), st.integers(0, 1), st.booleans(), st.booleans()),
    st.lists(st.tuples(*[st.floats(0, 500, width=32)] * 4), max_size=5),
)
def test_there_and_back(convention, boxes):
    boxes = np.array(boxes, np.float64).reshape(-1, 4)
    again = convention.to_boxes(convention.from_boxes(boxes, 640, 480), 640, 480)
    np.testing.assert_allclose(again, boxes, atol=1e-6)


def test_by_hand():
    """The pixels 3..5 across and 10..19 down: 3 wide, 10 high."""
    ours = np.array([[3.0, 10.0, 6.0, 20.0]])
    for convention, numbers in (
        (Convention("xyxy", 0, True), [3, 10, 5, 19]),
        (Convention("yxyx", 1, True), [11, 4, 20, 6]),
        (Convention("xywh", 0), [3, 10, 3, 10]),
        (Convention("xywh", 1), [4, 11, 3, 10]),
        (Convention("xyxy", relative=True), [0.03, 0.2, 0.06, 0.4]),
    ):
        assert convention.from_boxes(ours, 100, 50)[0].tolist() == pytest.approx(numbers), convention


def test_a_square_image_needs_objects_to_tell_x_from_y():
    rng = np.random.default_rng(1)
    boxes = some_boxes(rng, 64, 64)
    rows = Convention("yxyx").from_boxes(boxes, 64, 64)
    guess, because = detect_convention([Entry(rows, 64, 64)], {})
    assert guess == OURS
    assert because == {"order": "assumed", "base": "detected", "inclusive": "detected", "relative": "detected"}
    truth = GroundTruth(boxes[3:6].astype(np.float32), np.zeros(3))
    found, because = detect_convention([Entry(rows, 64, 64, truth)], {})
    assert found.order == "yxyx"
    assert because["order"] == "detected from the objects"


@pytest.mark.parametrize("convention", [OURS, Convention("xyxy", 1, True), Convention("xyxy", 0, True)])
def test_fractions_far_from_the_border_tell_nothing_of_the_end(convention):
    """Boxes of a detector: with or without objects nearby, a pixel more or less is not made up."""
    rng = np.random.default_rng(3)
    corners = rng.uniform(50, [400, 200], (400, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(20, 150, (400, 2))], axis=1)
    near = GroundTruth((boxes[:5] + rng.normal(0, 6, (5, 4))).astype(np.float32), np.zeros(5))
    for truth in (None, near):
        rows = convention.from_boxes(boxes, 640, 420)
        found, because = detect_convention([Entry(rows, 640, 420, truth)], {})
        assert found == OURS
        assert because == {"relative": "detected", "order": "detected", "base": "assumed", "inclusive": "assumed"}


def test_objects_themselves_tell_the_end():
    rng = np.random.default_rng(4)
    corners = rng.integers(20, 60, (30, 2))
    boxes = np.concatenate([corners, corners + rng.integers(8, 30, (30, 2))], axis=1)
    truth = GroundTruth(boxes.astype(np.float32), np.zeros(30))
    convention = Convention("xyxy", 1, True)
    found, because = detect_convention([Entry(convention.from_boxes(boxes, 120, 100), 120, 100, truth)], {})
    assert found == convention
    assert because["base"] == because["inclusive"] == "detected from the objects"


def test_one_box_at_the_border_by_chance_does_not_tell():
    rows = np.array([[1, 30, 40, 50], [10, 12, 30, 40]])
    found, because = detect_convention([Entry(rows, 100, 60)], {})
    assert found == OURS
    assert because["base"] == "assumed"


def test_shares_a_little_beyond_the_image_are_still_shares():
    rows = np.array([[0.1, 0.1, 0.5, 0.5], [0.2, 0.3, 1.002, 0.9], [0.3, 0.2, 0.6, 0.7]])
    assert detect_convention([Entry(rows, 640, 480)], {}).convention.relative


@pytest.mark.parametrize("noise", [2, 4, 8])
@pytest.mark.parametrize("convention", [OURS, Convention("xyxy", 0, True)])
def test_boxes_near_objects_do_not_tell_a_pixel(noise, convention):
    """Overlap favours larger boxes: it must not be taken for a pixel more."""
    rng = np.random.default_rng(noise)
    corners = rng.integers(100, [400, 200], (50, 2))
    objects = np.concatenate([corners, corners + rng.integers(30, 100, (50, 2))], axis=1)
    boxes = np.repeat(objects, 3, axis=0) + rng.integers(-noise, noise + 1, (150, 4))
    truth = GroundTruth(objects.astype(np.float32), np.zeros(50))
    found, because = detect_convention([Entry(convention.from_boxes(boxes, 640, 420), 640, 420, truth)], {})
    assert found == OURS
    assert because["base"] == because["inclusive"] == "assumed"


def test_a_convention_in_words():
    for convention in [*EIGHT, *MORE]:
        assert Convention.from_words(convention.words) == convention
    with pytest.raises(ValueError, match="is not a convention"):
        Convention.from_words("xyxy")


def test_what_is_told_is_believed():
    _, entries = zip(*written(OURS), strict=True)
    found, because = detect_convention(entries, {"base": 1, "order": "yxyx"})
    assert (found.base, found.order) == (1, "yxyx")
    assert because["base"] == because["order"] == "stated"


def test_a_few_bad_boxes_do_not_mislead():
    convention = Convention("xyxy", 0, True)
    entries = []
    for _, (rows, width, height, _) in written(convention):
        bad = [[5, 5, 5, 5], [7, 9, 3, 2], [-4, 0, 10, 10], [0, 0, np.nan, 5], [0, 0, width + 9, height]]
        entries.append(Entry(np.concatenate([rows, bad]), width, height))
    assert detect_convention(entries, {}).convention == convention


@pytest.mark.parametrize("rows", [np.zeros((0, 4)), np.full((3, 4), np.nan)])
def test_without_boxes_all_is_assumed(rows):
    found, because = detect_convention([Entry(rows, 10, 10)], {})
    assert found == OURS
    assert set(because.values()) == {"assumed"}
    assert detect_convention([], {}).convention == OURS
