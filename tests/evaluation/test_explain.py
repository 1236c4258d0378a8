"""Every miss and every false detection has exactly one reason, and each reason its case by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frcnn_cli.core.annotations import Detections, GroundTruth
from frcnn_cli.core.boxes import iou
from frcnn_cli.detections.nms import Thresholds, detections_from_scores, trace_selection
from frcnn_cli.evaluation.explain import FALSE, MISSED, Evidence, explain
from frcnn_cli.evaluation.matching import CORRECT, IGNORED, WRONG, match
from frcnn_cli.evaluation.voc import evaluate

A, B, FAR = [0, 0, 40, 40], [100, 100, 140, 140], [300, 300, 340, 340]
CLASSES = ("x", "y")


def explained(objects, proposals, probabilities, refined=None, thresholds=Thresholds(), above=None):
    """The reasons of one image. objects: (box, label); probabilities: background, x, y of each proposal."""
    boxes, labels = zip(*objects, strict=True)
    truth = {"i": GroundTruth(np.array(boxes, np.float32), np.array(labels))}
    proposals = np.array(proposals, np.float32).reshape(-1, 4)
    probabilities = np.array(probabilities, np.float32).reshape(-1, 3)
    refined = np.array(proposals if refined is None else refined, np.float32).reshape(-1, 4)
    per_class = np.repeat(refined[:, None], 2, axis=1)
    chosen = trace_selection(probabilities, per_class, thresholds, above)
    found = {"i": detections_from_scores(probabilities, per_class, thresholds, above)}
    least = np.maximum(thresholds.min_score, above if above is not None else np.zeros(2))
    evidence = {"i": Evidence(proposals, probabilities, per_class, least, *chosen)}
    return explain(match(found, truth, 2), found, truth, evidence, 0.5, "area")


def missed(*arguments, **more):
    counts = explained(*arguments, **more).missed.sum(axis=0)
    return [kind for kind, count in zip(MISSED, counts, strict=True) for _ in range(count)]


def false(*arguments, **more):
    counts = explained(*arguments, **more).false.sum(axis=0)
    return [kind for kind, count in zip(FALSE, counts, strict=True) for _ in range(count)]


class TestMissed:
    def test_no_proposal(self):
        assert missed([(A, 0)], [FAR], [[0, 1, 0]]) == ["no proposal"]
        assert missed([(A, 0)], [], []) == ["no proposal"]

    def test_background(self):
        assert missed([(A, 0)], [A], [[0.98, 0.01, 0.01]]) == ["background"]

    def test_wrong_class(self):
        assert missed([(A, 0)], [A], [[0.05, 0.01, 0.94]]) == ["wrong class"]

    def test_loose_box(self):
        assert missed([(A, 0)], [A], [[0, 1, 0]], refined=[FAR]) == ["loose box"]

    def test_a_box_that_goes_to_a_neighbour_is_loose(self):
        near = [10, 0, 50, 40]
        assert missed([(A, 0), (near, 0)], [[1, 0, 41, 40]], [[0, 1, 0]]) == ["loose box"]

    def test_suppressed(self):
        # The second object's box falls to that of the first, which overlaps it.
        near = [10, 0, 50, 40]
        assert missed([(A, 0), (near, 0)], [A, near], [[0, 0.9, 0], [0, 0.8, 0]]) == ["suppressed"]

    def test_cut_by_a_threshold_a_rank_or_the_number_an_image(self):
        one_of_two = ([(A, 0), (B, 0)], [A, B], [[0.1, 0.9, 0], [0.2, 0.8, 0]])
        assert missed(*one_of_two) == []
        assert missed(*one_of_two, above=[0.85, 0.0]) == ["cut"]
        assert missed(*one_of_two, thresholds=Thresholds(per_class=1)) == ["cut"]
        assert missed(*one_of_two, thresholds=Thresholds(max_per_image=1)) == ["cut"]

    def test_the_network_may_move_a_box_onto_an_object(self):
        assert missed([(A, 0)], [FAR], [[0.98, 0.01, 0.01]], refined=[A]) == ["background"]
        assert missed([(A, 0)], [FAR], [[0, 1, 0]], refined=[A]) == []


class TestFalse:
    def test_duplicate(self):
        # 0.6 of A, and 0.29 of each other: suppression leaves both.
        left, right = [0, 0, 28, 40], [12, 0, 40, 40]
        assert iou(np.array([left]), np.array([right]))[0, 0] > 0.3
        kept = Thresholds(iou=0.5)
        found = explained([(A, 0)], [left, right], [[0, 0.9, 0], [0, 0.8, 0]], thresholds=kept)
        assert found.false.sum(axis=0).tolist() == [1, 0, 0, 0]
        assert found.found.tolist() == [1, 0]

    def test_localisation(self):
        assert false([(A, 0)], [[0, 0, 15, 40]], [[0, 1, 0]]) == ["localisation"]

    def test_confusion(self):
        assert false([(A, 1)], [A], [[0, 1, 0]]) == ["confusion"]

    def test_background(self):
        assert false([(A, 0)], [FAR], [[0, 1, 0]]) == ["background"]
        assert false([(A, 0)], [[38, 38, 80, 80]], [[0, 1, 0]]) == ["background"]  # IoU below 0.1


def test_what_a_kind_costs():
    # One object found after a detection of nothing: AP 1/2; without that detection 1.
    found = explained([(A, 0)], [FAR, A], [[0, 0.9, 0], [0, 0.8, 0]])
    assert found.mean_ap == pytest.approx(0.5)
    assert dict(zip(FALSE, found.false_cost, strict=True))["background"] == pytest.approx(0.5)
    # One of two objects has no proposal: AP 1/2; if it need not be found 1.
    found = explained([(A, 0), (B, 0)], [A], [[0, 1, 0]])
    assert dict(zip(MISSED, found.missed_cost, strict=True))["no proposal"] == pytest.approx(0.5)
    assert found.false_cost == (0, 0, 0, 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000), st.integers(0, 40), st.integers(0, 8), st.sampled_from([0, 3]), st.sampled_from([0, 5]))
def test_the_counts_sum_to_the_totals(seed, boxes, objects, per_class, most):
    rng = np.random.default_rng(seed)
    thresholds = Thresholds(0.3, 0.2, most, per_class)
    truths, found, evidence = {}, {}, {}
    for key in "abc":
        corners = rng.uniform(0, 80, (objects, 2))
        truths[key] = GroundTruth(
            np.concatenate([corners, corners + rng.uniform(5, 40, (objects, 2))], 1),
            rng.integers(0, 2, objects),
            rng.random(objects) < 0.2,
        )
        corners = rng.uniform(0, 80, (boxes, 2)).astype("f4")
        proposals = np.concatenate([corners, corners + rng.uniform(5, 40, (boxes, 2)).astype("f4")], 1)
        refined = (proposals[:, None] + rng.normal(0, 3, (boxes, 2, 4))).astype("f4")
        probabilities = rng.dirichlet([1, 1, 1], boxes).astype("f4").reshape(-1, 3)
        chosen = trace_selection(probabilities, refined, thresholds)
        found[key] = detections_from_scores(probabilities, refined, thresholds)
        assert chosen.final.sum() == len(found[key])
        assert not (chosen.final & ~chosen.kept).any()
        assert not (chosen.kept & ~chosen.ranked).any()
        evidence[key] = Evidence(proposals, probabilities, refined, np.full(2, 0.2), *chosen)
    matches = match(found, truths, 2)
    told = explain(matches, found, truths, evidence, 0.5, "area")
    correct = np.bincount(matches.labels[matches.outcomes == CORRECT], minlength=2)
    wrong = np.bincount(matches.labels[matches.outcomes == WRONG], minlength=2)
    assert told.found.tolist() == correct.tolist()
    assert (told.missed.sum(axis=1) + correct).tolist() == matches.to_find.sum(axis=1).tolist()
    assert told.false.sum(axis=1).tolist() == wrong.tolist()
    assert told.mean_ap == pytest.approx(evaluate(found, truths, CLASSES, missing="empty").mean_ap, nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000))
def test_matching_is_that_of_a_loop_over_everything(seed):
    """The rule, said as plainly as it can be."""
    rng = np.random.default_rng(seed)
    truths, found = {}, {}
    for key in "cab":
        corners = rng.integers(0, 30, (4, 2))
        truths[key] = GroundTruth(
            np.concatenate([corners, corners + 10], 1), rng.integers(0, 2, 4), rng.random(4) < 0.3
        )
        corners = rng.integers(0, 30, (9, 2))
        scores = np.sort(rng.integers(0, 4, 9) / 4)[::-1]
        found[key] = Detections(np.concatenate([corners, corners + 10], 1), scores, rng.integers(0, 2, 9))
    matches = match(found, truths, 2)
    for label in (0, 1):
        everything = [
            (-float(found[key].scores[place]), key, place)
            for key in found
            for place in np.flatnonzero(found[key].labels == label)
        ]
        expected, taken = [], set()
        for _, key, place in sorted(everything):
            candidates = [
                (iou(found[key].boxes[[place]], truths[key].boxes[[at]])[0, 0], -at)
                for at in np.flatnonzero(truths[key].labels == label)
            ]
            overlap, at = max(candidates, default=(0, 0))
            if overlap < 0.5:
                expected.append(WRONG)
            elif truths[key].difficult[-at]:
                expected.append(IGNORED)
            else:
                expected.append(WRONG if (key, at) in taken else CORRECT)
                taken.add((key, at))
        mine = matches.of_class(label)
        assert matches.outcomes[mine].tolist() == expected
        where = zip(matches.images[mine].tolist(), matches.places[mine].tolist(), strict=True)
        assert [(matches.keys[i], place) for i, place in where] == [
            (key, place) for _, key, place in sorted(everything)
        ]
