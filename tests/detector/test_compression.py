"""Models of lower rank: what they compute, and the search for the smallest."""

import dataclasses

import numpy as np
import pytest
import torch

from frcnn_cli.core.annotations import GroundTruth
from frcnn_cli.core.errors import UsageError
from frcnn_cli.detector.compression import Compressor, MappedSample, mean_ap, milliseconds, random_image
from frcnn_cli.detector.detector import Detector
from frcnn_cli.evaluation.voc import evaluate
from frcnn_cli.recipes.recipe import Recipe
from tests.detector.test_model import detector, picture


def test_full_rank_changes_nothing_and_files_keep_the_ranks(tmp_path):
    made = detector()
    small = Compressor(made).compressed({"fc6": 256, "fc7": 256})
    one, other = made.detect(picture()), small.detect(picture())
    np.testing.assert_allclose(one.boxes, other.boxes, atol=0.05)
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
    small = Compressor(made).compressed({"fc6": 8})
    small.save(tmp_path / "small.safetensors")
    loaded = Detector.load(tmp_path / "small.safetensors")
    assert loaded.config.ranks == {"fc6": 8}
    assert loaded.features_id == made.features_id
    assert loaded.model_id != made.model_id
    np.testing.assert_allclose(loaded.detect(picture()).boxes, small.detect(picture()).boxes, atol=0.01)
    assert made.config.ranks == {}
    assert isinstance(made.head.fc6, torch.nn.Linear), "the old model is as it was"
    with pytest.raises(UsageError, match="compressed already"):
        Compressor(loaded)


def test_layers_and_ranks_that_there_are_not():
    compressor = Compressor(detector())
    with pytest.raises(UsageError, match="no layer 'fc8'"):
        compressor.compressed({"fc8": 3})
    with pytest.raises(UsageError, match="fc7: rank 300 is not between 1 and 256"):
        compressor.compressed({"fc7": 300})


def test_energy_of_low_rank_layers():
    made = detector()
    torch.manual_seed(0)
    made.head.fc6.weight.data = torch.randn(256, 5) @ torch.randn(5, 3136)
    ranks = Compressor(made).ranks_for(0.9999)
    assert ranks["fc6"] <= 5
    assert "fc7" not in ranks, "a random layer has no smaller one that is worth it"


def test_the_search_ends_at_the_smallest_multiple_that_is_good_enough():
    compressor = Compressor(detector())
    needed = {"fc6": 100, "fc7": 17}
    tried = []

    def reached(made):
        return float(all(rank >= needed[name] for name, rank in made.config.ranks.items()))

    found = compressor.smallest_ranks(reached, 1.0, lambda trial, reached: tried.append((trial, reached)))
    assert found == {"fc6": 112, "fc7": 32}
    assert len(tried) < 16
    assert compressor.smallest_ranks(lambda made: 0.0, 1.0, lambda *_: None) == {}


def test_measuring():
    made = detector()
    features, scale = made.feature_map(picture())
    boxes = np.array([[5, 5, 40, 40]], np.float32)
    truth = GroundTruth(np.array([[0, 0, 64, 48]], np.float32), np.array([0]))
    scene = MappedSample(features, boxes, scale, 48, 64, truth)
    detections = made.detect_in_maps(features, boxes, scale, 48, 64)
    expected = evaluate({"i": detections}, {"i": truth}, made.classes).mean_ap
    assert mean_ap(made, [scene]) == pytest.approx(expected)
    # By the model's own rule: nothing is surer than certain.
    strict = Recipe().changed({"detection.per_set": 0, "detection.min_score": 1.0})
    whole = MappedSample(features, truth.boxes, scale, 48, 64, truth)
    assert mean_ap(made, [whole]) > 0
    made.config = dataclasses.replace(made.config, recipe=strict.to_dict())
    assert mean_ap(made, [whole]) == 0
    assert all(taken > 0 for taken in milliseconds((made, made), [scene, random_image(made, 20)]))
