"""Lab against OpenCV, for every colour that an 8-bit image can have."""

import cv2
import numpy as np

from frcnn_cli.proposals.selective_search.lab import rgb_to_lab


def test_every_colour_is_converted_as_opencv_does():
    levels = np.arange(256, dtype=np.uint8)
    for red in range(256):
        plane = np.stack(np.broadcast_arrays(np.uint8(red), levels[:, None], levels), axis=2)
        assert np.array_equal(rgb_to_lab(plane), cv2.cvtColor(plane, cv2.COLOR_RGB2LAB)), red


def test_an_image_that_is_not_contiguous():
    pixels = np.random.default_rng(0).integers(0, 256, (7, 10, 3), dtype=np.uint8)
    assert np.array_equal(rgb_to_lab(pixels[::2, ::3]), rgb_to_lab(pixels)[::2, ::3])
    assert rgb_to_lab(pixels[:0]).shape == (0, 10, 3)
