import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from frcnn_cli.core import boxes as B

corners = arrays(np.float32, st.tuples(st.integers(0, 7), st.just(4)), elements=st.floats(0, 50, width=32))


def sorted_corners(values):
    return np.concatenate([np.minimum(values[:, :2], values[:, 2:]), np.maximum(values[:, :2], values[:, 2:])], axis=1)


def slow_iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    inside = max(width, 0.0) * max(height, 0.0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside
    return inside / union if union > 0 else 0.0


@given(corners, corners)
def test_iou_equals_the_slow_reference(a, b):
    a, b = sorted_corners(a), sorted_corners(b)
    expected = [[slow_iou(x, y) for y in b.astype(float).tolist()] for x in a.astype(float).tolist()]
    np.testing.assert_allclose(B.iou(a, b), np.reshape(expected, (len(a), len(b))), atol=1e-12)


@given(corners, corners, st.integers(1, 9))
def test_part_of_a_box_and_best_overlap_equal_the_slow_reference(a, b, pairs):
    a, b = sorted_corners(a), sorted_corners(b)
    for measure, table in ((B.iou, B.iou(a, b)), (B.covered, B.covered(a, b))):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(B, "_BLOCK_PAIRS", pairs)  # in blocks of one row or few
            largest, which = B.best_overlap(a, b, measure)
        for i in range(len(a)):
            expected = max(range(len(b)), key=lambda j, row=table[i]: row[j]) if len(b) else 0
            assert which[i] == expected
            assert largest[i] == (table[i, expected] if len(b) else 0)
    for x, row in zip(a.astype(float).tolist(), B.covered(a, b), strict=True):
        for y, found in zip(b.astype(float).tolist(), row, strict=True):
            inside = max(min(x[2], y[2]) - max(x[0], y[0]), 0) * max(min(x[3], y[3]) - max(x[1], y[1]), 0)
            area = (x[2] - x[0]) * (x[3] - x[1])
            assert found == pytest.approx(inside / area if area else 0, abs=1e-12)


def test_iou_of_known_boxes():
    a = np.array([[0, 0, 10, 10]], np.float32)
    b = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [3, 3, 3, 3], [0, 0, 10, 5]], np.float32)
    np.testing.assert_allclose(B.iou(a, b)[0], [1, 1 / 3, 0, 0, 0.5])


def test_no_boxes_and_one_box():
    none, one = np.zeros((0, 4), np.float32), np.array([[1, 2, 3, 5]], np.float32)
    assert B.iou(none, one).shape == (0, 1)
    assert B.area(none).shape == (0,)
    assert B.area(one).tolist() == [6]
    assert B.clip(none, 5, 5).shape == (0, 4)
    assert len(B.first_of_equal(none)) == 0


def test_an_inverted_box_has_no_area():
    assert B.area(np.array([[5, 5, 2, 9]], np.float32)).tolist() == [0]


@given(corners, st.integers(50, 200))
def test_two_flips_are_none(values, width):
    boxes = sorted_corners(values)
    flipped = B.flip_horizontally(boxes, width)
    assert (flipped[:, 2] >= flipped[:, 0]).all()
    np.testing.assert_allclose(B.flip_horizontally(flipped, width), boxes, atol=1e-4)


def test_flip_of_a_whole_image_is_itself():
    assert B.flip_horizontally(np.array([[0, 0, 640, 480]], np.float32), 640).tolist() == [[0, 0, 640, 480]]


def test_a_whole_image_in_every_convention():
    whole = [[0, 0, 640, 480]]
    assert B.from_inclusive(np.array([[1, 1, 640, 480]]), base=1).tolist() == whole
    assert B.from_inclusive(np.array([[0, 0, 639, 479]]), base=0).tolist() == whole
    assert B.from_xywh(np.array([[0, 0, 640, 480]])).tolist() == whole
    assert B.from_xywh(np.array([[10, 200, 3, 4]])).tolist() == [[10, 200, 13, 204]]


@pytest.mark.parametrize("base", [0, 1])
@given(corners)
def test_inclusive_and_back(base, values):
    boxes = sorted_corners(values)
    np.testing.assert_allclose(B.from_inclusive(B.to_inclusive(boxes, base), base), boxes, atol=1e-4)


def test_unsigned_corners_do_not_wrap_around():
    assert B.from_inclusive(np.array([[0, 0, 5, 5]], np.uint16), base=1).tolist() == [[-1, -1, 5, 5]]


def test_clip_keeps_boxes_inside():
    boxes = np.array([[-5, -5, 700, 500], [650, 10, 660, 20]], np.float32)
    assert B.clip(boxes, 480, 640).tolist() == [[0, 0, 640, 480], [640, 10, 640, 20]]


def test_first_of_equal_keeps_places():
    boxes = np.array([[1, 1, 2, 2], [0, 0, 1, 1], [1, 1, 2, 2], [0, 0, 1, 1], [0, 0, 2, 2]], np.float32)
    assert B.first_of_equal(boxes).tolist() == [0, 1, 4]


def test_no_boxes_at_all():
    assert B.as_boxes([]).shape == (0, 4)
    assert B.as_boxes(np.zeros((0, 5))).dtype == np.float32
    assert B.first_of_equal(np.zeros((0, 4), np.float32)).tolist() == []


@pytest.mark.parametrize("values", [[[1, 2, 3]], [1, 2, 3, 4], [[1, 2, 3, np.nan]], [[0, 0, np.inf, 1]]])
def test_what_is_not_boxes_is_refused(values):
    with pytest.raises(ValueError, match=r"shape|NaN"):
        B.as_boxes(values)
