"""Draws of images against the images really repeated, and what they say of detectors."""

import numpy as np
import pytest

from frcnn_cli.core.annotations import Detections, GroundTruth
from frcnn_cli.evaluation.bootstrap import compare, draws, interval, mean_aps
from frcnn_cli.evaluation.matching import match
from frcnn_cli.evaluation.voc import evaluate, weighted_mean_ap

CLASSES = ("x", "y")


def made_up(images=12, skill=0.7, seed=0):
    """A detector that finds an object with this chance, and as much nonsense as it misses."""
    rng = np.random.default_rng(seed)
    wanted, found = {}, {}
    for i in range(images):
        corners = np.arange(4)[:, None] * 50 + np.zeros((4, 2))
        boxes, labels = np.concatenate([corners, corners + 20], 1), np.array([0, 1, 0, 1])
        wanted[f"{i:02d}"] = GroundTruth(boxes, labels)
        good = rng.random(4) < skill
        scores = rng.random(4)
        found[f"{i:02d}"] = Detections(boxes + np.where(good, 0, 1000)[:, None], scores, labels)
    return found, wanted


@pytest.mark.parametrize("metric", ["area", "voc07"])
def test_a_draw_is_the_set_with_images_repeated(metric):
    found, wanted = made_up()
    matches = match(found, wanted, 2)
    for weights in draws(len(wanted), 20):
        repeated = [
            (key, copy) for key, times in zip(sorted(wanted), weights, strict=True) for copy in range(int(times))
        ]
        again = [{f"{key}-{copy}": values[key] for key, copy in repeated} for values in (found, wanted)]
        expected = evaluate(*again, CLASSES, metric=metric).mean_ap
        assert weighted_mean_ap(matches, metric, weights) == pytest.approx(
            expected, abs=0.02 if metric == "voc07" else 1e-9
        )


def test_once_each_is_the_plain_map():
    found, wanted = made_up()
    matches = match(found, wanted, 2)
    plain = evaluate(found, wanted, CLASSES).mean_ap
    assert weighted_mean_ap(matches, "area", np.ones(len(wanted))) == pytest.approx(plain)
    assert weighted_mean_ap(matches, "area", 3 * np.ones(len(wanted))) == pytest.approx(plain)


def test_the_interval_holds_the_map_and_narrows_with_images():
    widths = []
    for images in (12, 120):
        found, wanted = made_up(images)
        values = mean_aps(match(found, wanted, 2), "area", draws(images, 200))
        low, high = interval(values)
        assert low <= evaluate(found, wanted, CLASSES).mean_ap <= high
        widths.append(high - low)
    assert widths[1] < 0.6 * widths[0]


def test_draws_are_as_many_images_each_and_the_same_again():
    drawn = draws(7, 50)
    assert (drawn.sum(axis=1) == 7).all()
    assert (drawn == draws(7, 50)).all()
    assert (drawn != draws(7, 50, seed=1)).any()


@pytest.mark.parametrize(
    ("skills", "verdict"), [((0.9, 0.4), "first"), ((0.4, 0.9), "second"), ((0.7, 0.7), "neither")]
)
def test_which_is_better(skills, verdict):
    drawn = draws(40, 300)
    (one, wanted), (two, _) = (made_up(40, skill, seed) for seed, skill in enumerate(skills))
    maps = [mean_aps(match(found, wanted, 2), "area", drawn) for found in (one, two)]
    plain = [evaluate(found, wanted, CLASSES).mean_ap for found in (one, two)]
    told = compare(*maps, plain[0] - plain[1])
    assert told.verdict == verdict
    assert (told.better > 0.5) == (plain[0] > plain[1])
    same = compare(maps[0], maps[0], 0.0)
    assert (same.verdict, same.better, same.interval) == ("neither", 0.5, (0, 0))


def test_draws_without_an_object_say_nothing():
    few = np.array([0.5, np.nan, 0.5, np.nan])
    assert compare(few, few, 0.0).better == 0.5
    assert compare(few + 0.1, few, 0.1).better == 1.0
    nothing = compare(0 * few[1::2], few[1::2], np.nan)
    assert np.isnan([nothing.better, *nothing.interval]).all()
