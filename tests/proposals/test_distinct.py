import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from frcnn_cli.core.boxes import iou
from frcnn_cli.proposals.distinct import distinct


def slow(boxes, max_iou):
    kept = []
    for i, box in enumerate(boxes):
        if all(iou(box[None], boxes[j][None]).item() <= max_iou for j in kept):
            kept.append(i)
    return kept


@settings(deadline=None)  # the first call compiles
@given(st.integers(0, 10_000), st.integers(0, 60), st.sampled_from([0.1, 0.3, 0.5, 0.85, 0.9, 0.99, 1.0]))
def test_it_is_the_slow_walk(seed, count, max_iou):
    """Crowded whole-numbered boxes: many of any overlap, equal ones and ones without area."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 9, (count, 4))
    boxes = np.concatenate([np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], 1)
    boxes = boxes.astype(np.float64)
    assert distinct(boxes, max_iou).tolist() == slow(boxes, max_iou)


def test_at_most_so_many_are_kept():
    boxes = np.array([[0, 0, 9, 9], [0, 0, 9, 9], [20, 0, 29, 9], [40, 0, 49, 9]], np.float64)
    assert distinct(boxes, 0.9, 2).tolist() == [0, 2]
    assert distinct(boxes, 0.9, 0).tolist() == []


def test_huge_and_tiny_boxes():
    boxes = np.array([[0, 0, 3e9, 3e9], [0, 0, 3e9, 2.95e9], [0, 0, 1e-3, 1e-3], [0, 0, 1e-3, 9.9e-4]])
    assert distinct(boxes, 0.9).tolist() == [0, 2]
    assert distinct(np.zeros((0, 4), np.float32), 0.9).tolist() == []
