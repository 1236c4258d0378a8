"""The plugin against the conformance kit, a scene whose answer is plain, and bad model files."""

import gzip
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from frcnn_edge_boxes import EdgeBoxes, gradient_edges

from frcnn_cli.errors import FileFormatError, UsageError
from frcnn_cli.proposals.hook import Image
from frcnn_cli.testing import check_proposal_source


@pytest.mark.parametrize("source", [EdgeBoxes(), EdgeBoxes(alpha=0.5, min_area=50.0, max_boxes=50, sigma=0.0)])
def test_conformance(source):
    check_proposal_source(source)


def scene():
    pixels = np.full((120, 160, 3), 90, np.uint8)
    pixels[30:80, 40:100] = (200, 60, 60)
    return pixels


def test_the_box_around_the_only_object_is_among_the_best():
    boxes, scores = EdgeBoxes().propose(Image.from_array(scene()))
    assert (np.diff(scores) <= 0).all()
    assert np.abs(boxes[:20] - [40, 30, 100, 80]).max(axis=1).min() <= 6


def test_gradient_edges_lie_on_the_outline_and_point_across_it():
    strength, angle = gradient_edges(scene(), sigma=1.0)
    on = strength > 0.5
    ys, xs = np.nonzero(on)
    assert len(ys) > 150
    assert all(
        min(abs(x - 39.5), abs(x - 99.5), abs(y - 29.5), abs(y - 79.5)) <= 1.5 for y, x in zip(ys, xs, strict=True)
    )
    assert angle[55, 40] == pytest.approx(0, abs=0.05)  # a vertical edge: across is along x
    assert angle[30, 70] == pytest.approx(np.pi / 2, abs=0.05)
    assert strength.max() == 1
    assert strength[55, 45] == strength[10, 10] == 0


@pytest.mark.parametrize("content", [b"", b"no model at all", gzip.compress(b"%YAML:1.0\n---\nx: 3\n")])
def test_a_file_that_is_no_model_is_named_before_any_image(tmp_path, content):
    path = tmp_path / "model.yml.gz"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="is not a structured forest"):
        EdgeBoxes(model=path).prepare()


def tiny_forest(path, trees=4):
    """The smallest structured forest that OpenCV reads: one split on the first channel, and a leaf that draws edges."""
    options = {
        "stride": 2, "shrinkNumber": 2, "patchSize": 32, "patchInnerSize": 16, "numberOfGradientOrientations": 4,
        "gradientSmoothingRadius": 0, "regFeatureSmoothingRadius": 2, "ssFeatureSmoothingRadius": 8,
        "gradientNormalizationRadius": 4, "selfsimilarityGridSize": 5, "numberOfTrees": trees,
        "numberOfTreesToEvaluate": 2,
    }  # fmt: skip
    bins = [row * 16 + column for row in range(16) for column in range(4, 12)]
    nodes = {
        "childs": [1, 0, 0],
        "featureIds": [0, 0, 0],
        "thresholds": [0.05, 0.0, 0.0],
        "edgeBoundaries": [0, 0, 0, len(bins)],
        "edgeBins": bins,
    }
    lines = ["%YAML:1.0", "---", "options:", *(f"   {name}: {value}" for name, value in options.items())]
    for name, values in nodes.items():
        lines += [f"{name}:", *[f"   - [ {', '.join(map(str, values))} ]"] * trees]
    path.write_bytes(gzip.compress("\n".join([*lines, ""]).encode()))
    return path


def test_edges_of_a_structured_forest(tmp_path):
    source = EdgeBoxes(model=tiny_forest(tmp_path / "model.yml.gz"))
    check_proposal_source(source)
    image = Image.from_array(scene())
    strength, angle = source._edges(image.pixels)
    assert strength.shape == angle.shape == image.pixels.shape[:2]
    assert strength.max() > 0.1
    assert not np.array_equal(source.propose(image).boxes, EdgeBoxes().propose(image).boxes)
    copied = pickle.loads(pickle.dumps(source))  # after use: without the forest, which cannot be pickled
    np.testing.assert_array_equal(copied.propose(image).boxes, source.propose(image).boxes)


def test_a_model_that_is_not_there():
    with pytest.raises(UsageError, match="is not a file"):
        EdgeBoxes.configured({"model": "nowhere.yml.gz"})


def test_it_goes_to_other_processes():
    source = EdgeBoxes(alpha=0.5)
    assert pickle.loads(pickle.dumps(source)) == source


def test_it_is_found_through_its_entry_point():
    printed = subprocess.run(
        [sys.executable, "-m", "frcnn_cli", "plugins", "edge-boxes", "--json"], capture_output=True, check=True
    ).stdout
    described = json.loads(printed)
    assert described["from"].startswith("frcnn-edge-boxes ")
    assert "model" in [option["name"] for option in described["options"]]
