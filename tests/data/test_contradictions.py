"""Labels that a detector contradicts."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from frcnn_cli.core.annotations import Detections, GroundTruth
from frcnn_cli.data.contradictions import contradictions

CLASSES = ("cat", "dog")
ONE, TWO, THREE = [0, 0, 20, 20], [40, 0, 60, 20], [0, 40, 20, 60]


def test_each_kind():
    truth = {"a": GroundTruth([ONE, TWO], [0, 1]), "b": GroundTruth([ONE], [0])}
    found = {
        "a": Detections([ONE, TWO, THREE], [0.9, 0.8, 0.7], [0, 0, 1], CLASSES),  # TWO is taken for a cat
        "b": Detections([THREE], [0.4], [0], CLASSES),  # not sure enough
    }
    told = contradictions(truth, found, CLASSES)
    assert [(one.kind, one.key, round(one.confidence, 3)) for one in told] == [
        ("another class", "a", 0.8),
        ("not labelled", "a", 0.7),
        ("not detected", "b", 0.5),  # half of the cats are found
    ]
    assert [str(one) for one in told] == [
        "dog 40 0 60 20 is labelled, but detected as cat",
        "dog 0 40 20 60 is detected, but not labelled",
        "cat 0 0 20 20 is labelled, but not detected",
    ]
    assert len(contradictions(truth, found, CLASSES, min_score=0.3)) == 4


def test_difficult_objects_contradict_nothing():
    truth = {"a": GroundTruth([ONE, TWO], [0, 1], [True, True])}
    nothing = {"a": Detections(np.zeros((0, 4)), [], [], CLASSES)}
    assert contradictions(truth, nothing, CLASSES) == []
    assert contradictions(truth, {"a": Detections([ONE], [0.9], [1], CLASSES)}, CLASSES) == []


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000))
def test_labels_that_are_detected_as_they_are_contradict_nothing(seed):
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 300, (8, 2))
    truth = GroundTruth(np.concatenate([corners, corners + rng.integers(5, 60, (8, 2))], 1), rng.integers(0, 2, 8))
    found = Detections(truth.boxes, rng.uniform(0.5, 1, 8), truth.labels, CLASSES)
    assert contradictions({"a": truth}, {"a": found}, CLASSES) == []
