"""The plugin against the conformance kit, its arithmetic, and the command line."""

import json
import subprocess
import sys

import numpy as np
import pytest
from frcnn_sliding_window import SlidingWindow

from frcnn_cli.proposals.hook import Image
from frcnn_cli.testing import check_proposal_source


@pytest.mark.parametrize(
    "source",
    [SlidingWindow(), SlidingWindow(scales=(1.0,), stride=1.0), SlidingWindow(aspect_ratios=(20.0, 0.05), stride=0.5)],
)
def test_conformance(source):
    check_proposal_source(source)


def test_four_squares_tile_a_square_image():
    source = SlidingWindow(scales=(0.5,), aspect_ratios=(1.0,), stride=1.0)
    boxes = source.propose(Image.from_array(np.zeros((40, 40, 3), np.uint8))).boxes
    assert boxes.tolist() == [[0, 0, 20, 20], [20, 0, 40, 20], [0, 20, 20, 40], [20, 20, 40, 40]]


def test_windows_reach_every_border_and_keep_their_shape():
    source = SlidingWindow(scales=(0.3,), aspect_ratios=(2.0,))
    boxes = source.propose(Image.from_array(np.zeros((101, 157, 3), np.uint8))).boxes
    assert boxes[:, 0].min() == boxes[:, 1].min() == 0
    np.testing.assert_allclose([boxes[:, 2].max(), boxes[:, 3].max()], [157, 101], rtol=1e-6)
    size = boxes[:, 2:] - boxes[:, :2]
    np.testing.assert_allclose(size[:, 0] / size[:, 1], 2.0, rtol=1e-4)


def test_it_is_found_through_its_entry_point():
    printed = subprocess.run(
        [sys.executable, "-m", "frcnn_cli", "plugins", "sliding-window", "--json"], capture_output=True, check=True
    ).stdout
    described = json.loads(printed)
    assert described["from"].startswith("frcnn-sliding-window ")
    assert [option["name"] for option in described["options"]] == ["scales", "aspect_ratios", "stride"]
