import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from frcnn_cli.core.annotations import Detections
from frcnn_cli.core.boxes import iou
from frcnn_cli.core.drawing import class_colour, draw_detections
from frcnn_cli.detections.columns import from_columns, to_columns
from frcnn_cli.detections.nms import Thresholds, detections_from_scores, nms


def slow_nms(boxes, scores, threshold):
    """By the definition: go by falling score, keep what no kept box overlaps by the threshold or more."""
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        if all(iou(boxes[i : i + 1], boxes[k : k + 1])[0, 0] < threshold for k in kept):
            kept.append(i)
    return kept


side = st.integers(0, 12)


@given(
    st.lists(st.tuples(side, side, side, side, st.integers(0, 4)), max_size=12), st.sampled_from([0.0, 0.3, 0.5, 1.0])
)
def test_nms_equals_the_definition(rows, threshold):
    values = np.array(rows, np.float32).reshape(-1, 5)
    boxes = np.concatenate([values[:, :2], values[:, :2] + values[:, 2:4]], axis=1)
    assert nms(boxes, values[:, 4], threshold).tolist() == slow_nms(boxes, values[:, 4], threshold)


def test_suppression_at_equality():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5]], np.float32)
    scores = np.array([0.9, 0.8], np.float32)
    assert nms(boxes, scores, 0.5).tolist() == [0]
    assert nms(boxes, scores, 0.51).tolist() == [0, 1]


def three_classes(probabilities):
    boxes = np.array([[0, 0, 10, 10], [1, 0, 10, 10], [50, 50, 60, 60]], np.float32)
    return np.array(probabilities, np.float32), np.repeat(boxes[:, None], 3, axis=1)


def test_classes_do_not_suppress_each_other():
    found = detections_from_scores(*three_classes([[0, 0.9, 0.1, 0], [0, 0.2, 0.8, 0], [0.2, 0.5, 0, 0.3]]))
    assert found.labels.tolist() == [0, 1, 0, 2]
    np.testing.assert_allclose(found.scores, [0.9, 0.8, 0.5, 0.3])


def test_the_score_must_exceed_the_threshold_and_the_best_stay():
    given_scores = three_classes([[0.5, 0.5, 0, 0], [0.95, 0, 0.05, 0], [0.4, 0.6, 0, 0]])
    assert detections_from_scores(*given_scores, Thresholds(min_score=0.05)).labels.tolist() == [0, 0]
    assert detections_from_scores(*given_scores, Thresholds(max_per_image=1)).scores.tolist() == [np.float32(0.6)]


def test_nothing_in_nothing_out():
    found = detections_from_scores(np.zeros((0, 4), np.float32), np.zeros((0, 3, 4), np.float32))
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)
    assert len(nms(np.zeros((0, 4)), np.zeros(0), 0.3)) == 0


def test_columns_and_back():
    found = detections_from_scores(*three_classes([[0, 0.9, 0.1, 0], [0, 0.2, 0.8, 0], [0.2, 0.5, 0, 0.3]]))
    again = from_columns(to_columns(found))
    for name in ("boxes", "scores", "labels"):
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))


def test_drawing_leaves_the_picture_alone_and_marks_the_box():
    pixels = np.zeros((120, 160, 3), np.uint8)
    found = Detections(np.array([[20, 30, 100, 90]], np.float32), np.array([0.5]), np.array([1]), ("a", "b"))
    drawn = draw_detections(pixels, found)
    assert pixels.sum() == 0
    assert drawn.shape == pixels.shape
    colour = class_colour(1, 2)
    assert tuple(drawn[89, 60]) == colour  # the last row inside the box
    assert tuple(drawn[60, 99]) == colour
    assert drawn[91:, :].sum() == 0
    assert drawn[60, 60].sum() == 0


def test_drawing_on_the_smallest_picture():
    found = Detections(np.array([[0, 0, 1, 1]], np.float32), np.array([0.5]), np.array([0]), ("a",))
    assert draw_detections(np.zeros((1, 1, 3), np.uint8), found).shape == (1, 1, 3)
