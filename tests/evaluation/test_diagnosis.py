"""Confusions, best scores and calibration, against slow and obvious counts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frcnn_cli.core.annotations import Detections, GroundTruth
from frcnn_cli.evaluation.diagnosis import best_cuts, calibration, confusion_matrix
from frcnn_cli.evaluation.matching import CORRECT
from frcnn_cli.evaluation.voc import evaluate

CLASSES = ("a", "b", "c")
ONE, TWO, THREE = [0, 0, 20, 20], [40, 0, 60, 20], [0, 40, 20, 60]


def some(seed, images=4, objects=6):
    rng = np.random.default_rng(seed)
    wanted, found = {}, {}
    for i in range(images):
        corners = rng.integers(0, 200, (objects, 2))
        boxes = np.concatenate([corners, corners + rng.integers(10, 60, (objects, 2))], axis=1)
        labels = rng.integers(0, 3, objects)
        wanted[str(i)] = GroundTruth(boxes, labels, rng.random(objects) < 0.1)
        near = np.concatenate([boxes, boxes]) + rng.normal(0, 5, (2 * objects, 4))
        said = np.where(rng.random(2 * objects) < 0.7, np.tile(labels, 2), rng.integers(0, 3, 2 * objects))
        found[str(i)] = Detections(near, rng.integers(0, 20, 2 * objects) / 20, said)
    return found, wanted


def test_confusions():
    wanted = {"x": GroundTruth([ONE, TWO, THREE], [0, 1, 2]), "y": GroundTruth([ONE], [0])}
    found = {"x": Detections([ONE, TWO, TWO, [90, 90, 99, 99]], [0.9, 0.9, 0.8, 0.7], [0, 2, 1, 1])}
    counts = confusion_matrix(found, wanted, 3).counts
    assert counts.tolist() == [
        [1, 0, 0, 1],  # of two a, one is found
        [0, 1, 0, 0],  # TWO was found as b, although a more confident detection says c
        [0, 0, 0, 1],
        [0, 1, 1, 0],
    ]
    assert confusion_matrix(found, wanted, 3, min_score=0.85).counts[1].tolist() == [0, 0, 1, 0]  # b taken for c


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.3, 0.6]))
def test_rows_sum_to_objects_and_columns_to_detections(seed, score):
    found, wanted = some(seed)
    wanted = {key: GroundTruth(truth.boxes, truth.labels) for key, truth in wanted.items()}
    counts = confusion_matrix(found, wanted, 3, min_score=score).counts
    objects = np.bincount(np.concatenate([truth.labels for truth in wanted.values()]), minlength=3)
    detections = np.bincount(np.concatenate([f.labels[f.scores >= score] for f in found.values()]), minlength=3)
    assert counts[:3].sum(axis=1).tolist() == objects.tolist()
    assert counts[:, :3].sum(axis=0).tolist() == detections.tolist()
    assert counts[3, 3] == 0


def test_ignored_objects_count_neither_way():
    wanted = {"x": GroundTruth([ONE], [0], [True])}
    assert confusion_matrix({"x": Detections([ONE], [0.9], [1])}, wanted, 3).counts.sum() == 0
    assert confusion_matrix({}, wanted, 3).counts.sum() == 0
    beside = {"x": Detections([[0, 5, 20, 30]], [0.9], [1])}  # IoU 0.5 with ONE
    assert confusion_matrix(beside, wanted, 3, iou_threshold=0.5).counts.sum() == 0
    assert confusion_matrix(beside, wanted, 3, iou_threshold=0.6).counts.sum() == 1


def test_certain_scores_are_in_the_last_bin():
    found, wanted = {"x": Detections([ONE], [1.0], [0])}, {"x": GroundTruth([ONE], [0])}
    assert calibration(evaluate(found, wanted, CLASSES).matches).counts.tolist() == [0] * 9 + [1]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000))
def test_the_best_score_is_that_of_a_search_over_all(seed):
    found, wanted = some(seed)
    result = evaluate(found, wanted, CLASSES)
    for label, cut in enumerate(best_cuts(result)):
        scores = sorted({float(s) for f in found.values() for s in f.scores[f.labels == label]})
        best = 0.0
        for score in scores:
            kept = {key: f.where(f.scores >= np.float32(score)) for key, f in found.items()}
            c = evaluate(kept, wanted, CLASSES).classes[label]
            hits = c.recall * c.objects
            best = max(best, 2 * hits / (c.objects + c.detections) if c.objects + c.detections else 0.0)
        if np.isnan(cut.f1):
            assert best == 0 or not result.classes[label].objects
        else:
            assert cut.f1 == pytest.approx(best)
            assert any(cut.score == pytest.approx(score) for score in scores)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000))
def test_calibration_is_the_mean_over_bins(seed):
    found, wanted = some(seed)
    matches = evaluate(found, wanted, CLASSES).matches
    told = calibration(matches)
    counted = matches.outcomes != 2
    scores, correct = matches.scores[counted].astype(float), matches.outcomes[counted] == CORRECT
    error = 0.0
    for i, (low, high) in enumerate(zip(told.edges, told.edges[1:], strict=False)):
        inside = (scores >= low) & ((scores < high) | (i == 9))
        assert told.counts[i] == inside.sum()
        if inside.any():
            assert told.precision[i] == pytest.approx(correct[inside].mean())
            error += inside.sum() / len(scores) * abs(scores[inside].mean() - correct[inside].mean())
    assert told.error == pytest.approx(error)


def test_scores_that_are_no_probabilities_are_not_calibrated():
    found, wanted = {"x": Detections([ONE], [3.0], [0])}, {"x": GroundTruth([ONE], [0])}
    assert calibration(evaluate(found, wanted, CLASSES).matches) is None
    empty = {"x": Detections(np.zeros((0, 4)), [], [])}
    assert np.isnan(calibration(evaluate(empty, wanted, CLASSES).matches).error)
    assert all(np.isnan(cut.f1) for cut in best_cuts(evaluate(empty, wanted, CLASSES)))
