"""Annotated sizes that are not those of the pictures."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from frcnn_cli.core.annotations import GroundTruth
from frcnn_cli.core.decoding import ORIENTATION_TAG, read_image
from frcnn_cli.core.errors import DataError
from frcnn_cli.core.image import ImageRecord, ImageRef
from frcnn_cli.data.dataset import Dataset, Sample
from frcnn_cli.data.sizes import to_picture


def one_image(boxes, size, mode="error"):
    truth = GroundTruth(np.array(boxes, np.float32), np.zeros(len(boxes), int))
    sample = Sample(ImageRef("a", None), truth, size)
    return Dataset("d", "train", ("cat",), (sample,), size_mismatch=mode)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_boxes_of_a_picture_that_exif_rotated(tmp_path, orientation):
    """A white box on a black picture as stored: the box that is computed is where the decoder shows white."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[5:15, 30:52] = 255
    exif = Pillow.Exif()
    exif[ORIENTATION_TAG] = orientation
    Pillow.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    shown = read_image(tmp_path / "a.png")
    rows, columns = np.nonzero(shown.pixels[:, :, 0])
    expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    data = one_image([[30, 5, 52, 15]], (60.0, 40.0), "scale")
    fitted = data.within([shown.record], "error")
    assert fitted.samples[0].truth.boxes.tolist() == [expected]
    assert fitted.samples[0].truth.areas.tolist() == [220]
    assert fitted.notes == ("converted the boxes of 1 image(s) to the size of their picture, e.g. a",)
    with pytest.raises(DataError, match=f"a: annotated as 60 x 40, .* after EXIF orientation {orientation} rotated it"):
        replace(data, size_mismatch="error").within([shown.record], "error")


@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 500), st.integers(1, 500))
def test_boxes_of_a_picture_that_was_scaled(width, height, new_width, new_height):
    whole, half = [0, 0, width, height], [0, 0, width / 2, height / 4]
    boxes = to_picture(
        np.array([whole, half], np.float32), (width, height), ImageRecord("a", new_height, new_width, "")
    )
    expected = [[0, 0, new_width, new_height], [0, 0, new_width / 2, new_height / 4]]
    np.testing.assert_allclose(boxes, expected, rtol=1e-5)


def test_one_rule():
    picture = ImageRecord("a", 80, 100, "")
    assert one_image([[0, 0, 9, 9]], (100.0, 80.0)).within([picture], "error").notes == ()
    assert one_image([[0, 0, 9, 9]], None).within([picture], "error").notes == ()
    other = one_image([[0, 0, 9, 9]], (50.0, 40.0))
    with pytest.raises(DataError, match="annotated as 50 x 40, but the image is 100 x 80"):
        other.within([picture], "error")
    kept = replace(other, size_mismatch="keep").within([picture], "error")
    assert kept.samples[0].truth.boxes.tolist() == [[0, 0, 9, 9]]
    scaled = replace(other, size_mismatch="scale").within([picture], "error")
    assert scaled.samples[0].truth.boxes.tolist() == [[0, 0, 18, 18]]
    assert scaled.within([picture], "error").samples[0].truth.boxes.tolist() == [[0, 0, 18, 18]]  # only once
