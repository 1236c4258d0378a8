import numpy as np
import pytest

from frcnn_cli.annotations import GroundTruth
from frcnn_cli.proposals.recall import recall


def truth(boxes, difficult=()):
    return GroundTruth(np.array(boxes, np.float32), np.zeros(len(boxes), int), np.array(difficult, bool))


def test_figures_by_hand():
    # First image: the object is covered with IoU 0.5 by the first box and 1.0 by the second. Second: nothing is.
    images = [
        (np.array([[0, 0, 10, 5], [0, 0, 10, 10]], np.float32), truth([[0, 0, 10, 10]])),
        (np.zeros((0, 4), np.float32), truth([[0, 0, 10, 10]])),
    ]
    one, two = recall(images, counts=(1, 5))
    assert (one.recall_50, one.recall_70, one.average_best_overlap, one.mean_boxes) == (0.5, 0.0, 0.25, 0.5)
    assert (two.recall_50, two.recall_70, two.average_best_overlap, two.mean_boxes) == (0.5, 0.5, 0.5, 1.0)


def test_ground_truth_as_proposals_is_exactly_one():
    rng = np.random.default_rng(0)
    boxes = np.concatenate([rng.random((9, 2)), 1 + rng.random((9, 2))], axis=1).astype(np.float32)
    (line,) = recall([(boxes, truth(boxes))], counts=(100,))
    assert (line.recall_50, line.recall_70, line.average_best_overlap) == (1, 1, 1)


def test_difficult_objects_do_not_count():
    boxes = np.array([[0, 0, 10, 10]], np.float32)
    (line,) = recall([(boxes, truth([[0, 0, 10, 10], [50, 50, 60, 60]], [False, True]))], counts=(1,))
    assert line.recall_50 == 1


def test_no_objects_at_all():
    with pytest.raises(ValueError, match="no objects"):
        recall([(np.zeros((1, 4), np.float32), truth([]))])
