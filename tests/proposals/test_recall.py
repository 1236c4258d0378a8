import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from frcnn_cli.core.annotations import Detections, GroundTruth
from frcnn_cli.core.boxes import iou
from frcnn_cli.evaluation.voc import evaluate
from frcnn_cli.proposals.recall import cover, recall


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
    assert (line.recall_50, line.recall_70, line.average_recall, line.average_best_overlap, line.ceiling) == (1,) * 5


def test_difficult_objects_do_not_count():
    boxes = np.array([[0, 0, 10, 10]], np.float32)
    (line,) = recall([(boxes, truth([[0, 0, 10, 10], [50, 50, 60, 60]], [False, True]))], counts=(1,))
    assert line.recall_50 == 1


def test_no_objects_at_all():
    with pytest.raises(ValueError, match="no objects"):
        recall([(np.zeros((1, 4), np.float32), truth([]))])


def labelled(boxes, labels, difficult=()):
    return GroundTruth(np.array(boxes, np.float32), np.array(labels), np.array(difficult, bool))


def test_average_recall_by_hand():
    """IoU 0.72 passes five of COCO's ten thresholds (0.5 to 0.7), IoU 1 all ten."""
    images = [(np.array([[0, 0, 10, 7.2], [20, 0, 30, 10]], np.float32), truth([[0, 0, 10, 10], [20, 0, 30, 10]]))]
    coverage = cover(images, (5,))
    assert coverage.figures()[0].average_recall == (5 + 10) / 20
    np.testing.assert_array_equal(coverage.at_iou(), [[1] * 5 + [0.5] * 5])


def test_each_average_under_its_name():
    """Of the objects' best IoUs 0.72, 1 (class 0) and 0.36 (class 1)."""
    objects = labelled([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]], [0, 0, 1])
    boxes = np.array([[0, 0, 10, 7.2], [20, 0, 30, 10], [40, 0, 50, 3.6]], np.float32)
    found = cover([(boxes, objects)], (5,)).figures()[0]
    assert found.average_recall == 15 / 30
    assert found.average_best_overlap == pytest.approx((0.72 + 1 + 0.36) / 3)
    assert found.mean_average_best_overlap == pytest.approx(((0.72 + 1) / 2 + 0.36) / 2)
    # Hosang et al.: twice the area under recall between IoU 0.5 and 1, here by a fine sum.
    at = np.linspace(0.5, 1, 20_001)[:-1]
    area = np.mean([(best > at).mean() * 0.5 for best in (0.72, 1.0, 0.36)])
    assert found.average_recall_hosang == pytest.approx(2 * area, abs=1e-3)


def test_many_objects_are_compared_in_blocks(monkeypatch):
    """The figures do not depend on the size of the blocks in which proposals are compared with objects."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 90, (60, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 30, (60, 2))], axis=1).astype(np.float32)
    pairs = [(boxes[:40], labelled(boxes[30:] + 1, rng.integers(0, 2, 30)))]
    whole = cover(pairs, (1, 7, 35, 100))
    monkeypatch.setattr("frcnn_cli.core.boxes._BLOCK_PAIRS", 90)  # three proposals at a time
    assert cover(pairs, (1, 7, 35, 100)) == whole
    assert 0 < whole.figures()[2].recall_50 < whole.figures()[3].recall_50


def test_classes_and_sizes_apart():
    objects = labelled([[0, 0, 10, 10], [50, 0, 90, 40], [100, 0, 300, 200]], [0, 0, 1])
    boxes = np.array([[0, 0, 10, 10], [100, 0, 300, 200]], np.float32)
    coverage = cover([(boxes, objects)], (1, 2))
    first, second = (coverage.figures(coverage.of_class(label)) for label in (0, 1))
    assert [line.recall_50 for line in first] == [0.5, 0.5]
    assert [line.recall_50 for line in second] == [0, 1]
    assert [coverage.of_size(name).tolist() for name in ("small", "medium", "large")] == np.eye(3, dtype=bool).tolist()
    assert [line.ceiling for line in coverage.figures()] == [0.25, 0.75]
    with pytest.raises(ValueError, match="no objects are selected"):
        coverage.figures(coverage.labels == 7)


def ceiling_by_evaluation(boxes, truth):
    """Every box gets, for each class, the score of a classifier that knows the answer; VOC's own rules do the rest."""
    detections = []
    for label in np.unique(truth.labels):
        mine = np.flatnonzero(truth.labels == label)
        taken = set()
        for box in boxes:
            overlaps = iou(box[None], truth.boxes[mine])[0]
            best = overlaps.argmax()
            if overlaps[best] >= 0.5 and best not in taken:
                taken.add(best)
                detections.append((box, label))
    found = Detections(
        np.array([box for box, _ in detections], np.float32).reshape(-1, 4),
        np.ones(len(detections), np.float32),
        np.array([label for _, label in detections], np.int64),
    )
    return evaluate({"i": found}, {"i": truth}, ["a", "b", "c"]).mean_ap


@given(st.integers(0, 100_000))
def test_the_ceiling_is_what_evaluation_gives_a_perfect_classifier(seed):
    rng = np.random.default_rng(seed)

    def some(count):
        corners = rng.integers(0, 12, (count, 2))
        return np.concatenate([corners, corners + rng.integers(4, 10, (count, 2))], axis=1).astype(np.float32)

    objects = labelled(some(6), rng.integers(0, 3, 6), rng.random(6) < 0.2)
    boxes = some(20)
    assume(not objects.difficult.all())
    (line,) = cover([(boxes, objects)], (20,)).figures()
    assert line.ceiling == pytest.approx(ceiling_by_evaluation(boxes, objects), abs=1e-12)
