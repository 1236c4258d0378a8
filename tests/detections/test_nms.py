import heapq
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frcnn_cli.core.annotations import Detections
from frcnn_cli.core.boxes import iou
from frcnn_cli.core.drawing import class_colour, draw_detections
from frcnn_cli.detections.columns import from_columns, to_columns
from frcnn_cli.detections.nms import Thresholds, detections_from_scores, min_scores_of_set, nms, trace_selection
from frcnn_cli.recipes.sections import Detection


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


def slow_detections(probabilities, boxes, thresholds, min_scores):
    """By the definition, one class after the other: (score, label, row), best score first."""
    kept = []
    for label in range(boxes.shape[1]):
        scores = probabilities[:, label + 1]
        rows = [r for r in range(len(boxes)) if scores[r] > max(thresholds.min_score, min_scores[label])]
        if thresholds.per_class:
            rows = sorted(rows, key=lambda r: (-scores[r], r))[: thresholds.per_class]
        best = [rows[i] for i in slow_nms(boxes[rows, label], scores[rows], thresholds.iou)]
        kept += [(float(scores[row]), label, row) for row in best]
    kept.sort(key=lambda row: -row[0])
    return kept[: thresholds.max_per_image] if thresholds.max_per_image else kept


@given(st.integers(0, 10**6), st.sampled_from([0, 3]), st.sampled_from([0, 4]), st.sampled_from([0.0, 0.3, 0.6]))
def test_suppression_of_several_classes_equals_the_definition(seed, per_class, max_per_image, iou_threshold):
    rng = np.random.default_rng(seed)
    count, classes = int(rng.integers(0, 9)), int(rng.integers(1, 4))
    corners = rng.integers(0, 8, (count, classes, 2))
    boxes = np.concatenate([corners, corners + rng.integers(0, 8, corners.shape)], axis=2).astype(np.float32)
    probabilities = (rng.integers(0, 5, (count, classes + 1)) / 4).astype(np.float32)  # with ties
    thresholds = Thresholds(iou_threshold, 0.2, max_per_image, per_class)
    min_scores = rng.choice([0.0, 0.5], classes).tolist()
    found = detections_from_scores(probabilities, boxes, thresholds, min_scores)
    expected = slow_detections(probabilities, boxes, thresholds, min_scores)
    assert found.scores.tolist() == [score for score, _, _ in expected]
    assert found.labels.tolist() == [label for _, label, _ in expected]
    assert found.boxes.tolist() == [boxes[row, label].tolist() for _, label, row in expected]


def test_how_far_each_box_came():
    """Traced: what NMS considered, what it kept, and what the limit of the image left."""
    probabilities, boxes = three_classes([[0.1, 0.9, 0, 0], [0.3, 0.7, 0, 0], [0.4, 0.0, 0.6, 0]])
    traced = trace_selection(probabilities, boxes, Thresholds(max_per_image=1))
    assert traced.ranked.tolist() == [[True, False, False], [True, False, False], [False, True, False]]
    assert traced.kept.tolist() == [[True, False, False], [False, False, False], [False, True, False]]
    assert traced.final.tolist() == [[True, False, False], [False, False, False], [False, False, False]]


@given(st.integers(0, 10**6), st.sampled_from([0, 2]), st.integers(1, 3))
def test_the_thresholds_of_a_set_are_those_with_which_the_authors_end(seed, per_class, per_set):
    """As their code does: a heap of the best scores of each class, whose lowest score is the threshold of the next
    image. min_scores_of_set computes what it ends with."""
    rng = np.random.default_rng(seed)
    images = [(rng.integers(0, 6, (int(rng.integers(0, 6)), 3)) / 5).astype(np.float32) for _ in range(4)]
    found = min_scores_of_set(iter(images), 2, Thresholds(min_score=0.2, per_class=per_class), per_set)
    for label in (0, 1):
        heap, threshold = [], 0.0
        for probabilities in images:
            scores = sorted((s for s in probabilities[:, label + 1].tolist() if s > np.float32(0.2)), reverse=True)
            for score in scores[: per_class or None]:
                if score > threshold:
                    heapq.heappush(heap, score)
            if len(heap) > per_set * len(images):
                while len(heap) > per_set * len(images):
                    heapq.heappop(heap)
                threshold = heap[0]
        assert found[label] == pytest.approx(threshold)


def test_the_thresholds_of_one_image():
    """A rule over a set cannot be applied to one image: what the recipe leaves as in `paper` is that of later code."""
    assert Thresholds.of_one_image(Detection()) == Thresholds()
    changed = Detection(min_score=0.4, iou=0.45, max_per_image=7)
    assert Thresholds.of_one_image(changed) == Thresholds(0.45, 0.4, 7, 0)
    assert Thresholds.of_one_image(replace(changed, per_set=0)) == Thresholds(0.45, 0.4, 7, changed.per_class)
    assert Thresholds().changed(iou=0.0, min_score=None) == Thresholds(iou=0.0)


def test_arguments_of_other_shapes_are_refused():
    boxes, scores = np.zeros((2, 4), np.float32), np.zeros(2, np.float32)
    for wrong in ((boxes[0], scores), (boxes[:, :3], scores), (boxes, scores[:1]), (boxes[None], scores)):
        with pytest.raises(ValueError, match="expected"):
            nms(*wrong, 0.5)
    probabilities, refined = three_classes([[0.1, 0.9, 0, 0], [0.3, 0.7, 0, 0], [0.4, 0.0, 0.6, 0]])
    for wrong in ((probabilities[:2], refined), (probabilities[:, :3], refined), (probabilities, refined[:, 0])):
        with pytest.raises(ValueError, match="expected"):
            detections_from_scores(*wrong)


def test_traces_are_compared_by_value():
    scores = three_classes([[0.1, 0.9, 0, 0], [0.3, 0.7, 0, 0], [0.4, 0.0, 0.6, 0]])
    one, same, other = trace_selection(*scores), trace_selection(*scores), trace_selection(*scores, Thresholds(iou=1))
    assert one == same
    assert (one != same) is False
    assert one != other
    assert one != "text"


def test_thresholds_that_make_no_sense():
    for values in ({"iou": 1.5}, {"iou": -0.1}, {"min_score": 2}, {"max_per_image": -1}, {"per_class": -1}):
        with pytest.raises(ValueError, match="threshold"):
            Thresholds(**values).check()
    Thresholds(iou=0, min_score=1, max_per_image=0, per_class=0).check()
    Thresholds(iou=1, min_score=0).check()


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
