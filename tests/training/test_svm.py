"""SVMs in place of the softmax: hard negatives against a fit on everything, and a detector that has them."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from frcnn_cli.core.annotations import GroundTruth
from frcnn_cli.core.image import Image
from frcnn_cli.core.progress import Bar, Progress
from frcnn_cli.data.pairing import ProposedSample
from frcnn_cli.detector.detector import Detector
from frcnn_cli.roi.score import probabilities_of_margins
from frcnn_cli.training.svm import ClassSVM, fit_svms
from tests.detector.test_model import detector


def points(count, centre, seed):
    return (np.random.default_rng(seed).normal(0, 1, (count, 8)) + centre).astype(np.float32)


def test_hard_negatives_are_enough():
    """Mined in parts, the SVM is nearly that of all negatives at once, and keeps far fewer."""
    positives, negatives = points(60, 3.0, 0), points(6000, -3.0, 1)
    mined = ClassSVM(positives, refit_after=300)
    for part in np.array_split(negatives, 20):
        mined.mine(part)
    mined.fit()
    whole = ClassSVM(positives, [negatives])
    whole.fit()
    assert sum(map(len, mined.negatives)) < 1500
    everything = np.concatenate([positives, negatives])
    assert np.corrcoef(mined.margins(everything), whole.margins(everything))[0, 1] > 0.98
    assert (mined.margins(positives) > 0).mean() > 0.95
    assert (mined.margins(negatives) < 0).mean() > 0.95


def test_a_class_without_examples_claims_nothing():
    machine = ClassSVM(np.zeros((0, 8), np.float32))
    machine.mine(points(50, 0.0, 0))
    machine.fit()
    assert machine.weight is None


def test_margins_as_probabilities():
    found = probabilities_of_margins(torch.tensor([[9.0, 0.0, -1.0], [0.0, -20.0, -20.0]]))
    assert found[0].tolist() == pytest.approx([0.5, 0.5, 1 / (1 + np.e)])
    assert found[1, 0] > 0.999


def test_a_detector_with_svms(tmp_path):
    """A white and a black square; SVMs on the hidden layer of random weights tell them apart."""
    made = detector()
    rng = np.random.default_rng(0)
    pictures, images = {}, []
    for i in range(8):
        pixels = rng.integers(90, 160, (96, 96, 3)).astype(np.uint8)
        corners = rng.integers(0, 40, (2, 2)) + np.array([[0, 0], [0, 48]])
        boxes = np.concatenate([corners, corners + 40], 1).astype(np.float32)
        for (x1, y1, x2, y2), shade in zip(boxes.astype(int).clip(0, 96), (255, 0), strict=True):
            pixels[y1:y2, x1:x2] = shade
        boxes = boxes.clip(0, 96)
        others = rng.uniform(0, 60, (30, 2)).astype(np.float32)
        proposals = np.concatenate([boxes, np.concatenate([others, others + 30], 1)])
        pictures[i] = Image.from_array(pixels, str(i))
        images.append(ProposedSample(i, GroundTruth(boxes, np.array([0, 1])), proposals))
    advanced = []

    class Counting(Progress):
        @contextmanager
        def task(self, title, total, unit="images", done=0):
            bar = Bar()
            bar.advance = lambda count=1: advanced.append(count)
            assert total == 16
            yield bar

    fit_svms(made, images, pictures.get, Counting())
    assert sum(advanced) == 16
    made.set_recipe_values(network__classifier="svm")
    made.save(tmp_path / "m.safetensors")
    loaded = Detector.load(tmp_path / "m.safetensors")
    right = 0
    for i, image in enumerate(images):
        features, scale = loaded.feature_map(pictures[i], "float32")
        scores = loaded.score(features, image.proposals, scale, 96, 96)
        right += int(scores.probabilities[:, 1].argmax() == 0) + int(scores.probabilities[:, 2].argmax() == 1)
    assert right >= 14
    assert loaded.model_id != detector().model_id
