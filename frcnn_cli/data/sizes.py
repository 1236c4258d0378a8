"""The annotated size of an image against the actual size of its picture."""

from __future__ import annotations

from typing import Literal

import numpy as np

from frcnn_cli.core.boxes import Boxes
from frcnn_cli.core.image import ImageRecord

SizeMismatch = Literal["error", "scale", "keep"]
_MAX_DISTORTION = 0.03
Size = tuple[float, float]  # width, height


def differs(annotated: Size | None, picture: ImageRecord) -> bool:
    """Whether an annotation states another size than the picture has."""
    return annotated is not None and annotated != (picture.width, picture.height)


def is_rotated(annotated: Size | None, picture: ImageRecord) -> bool:
    """Whether the annotated size is that of the picture as stored, before its EXIF orientation was undone."""
    return picture.orientation >= 5 and annotated == (picture.height, picture.width)


def mismatch(annotated: Size | None, picture: ImageRecord) -> str:
    """What to say about two sizes that differ."""
    width, height = annotated or (0, 0)
    what = f"annotated as {width:g} x {height:g}, but the image is {picture.width} x {picture.height}"
    if is_rotated(annotated, picture):
        return f"{what} after EXIF orientation {picture.orientation} rotated it"
    return what


def same_shape(annotated: Size | None, picture: ImageRecord) -> bool:
    """Whether a picture can be the annotated one in another size: the aspect ratios differ by at most 3%, or by the
    rounding of a side."""
    if annotated is None or is_rotated(annotated, picture):
        return True
    across, down = picture.width / annotated[0], picture.height / annotated[1]
    rounding = 1 / min(picture.width, picture.height, *annotated)
    return abs(across / down - 1) <= max(_MAX_DISTORTION, 2 * rounding)


def to_picture(boxes: Boxes, annotated: Size | None, picture: ImageRecord) -> Boxes:
    """Boxes [N, 4] that were drawn on an image of another size, on the picture: rotated, or scaled per axis."""
    if annotated is None:
        return boxes
    width, height = annotated
    if not is_rotated(annotated, picture):
        scale = np.array([picture.width / width, picture.height / height] * 2)
        scaled: Boxes = (boxes * scale).astype(np.float32)
        return scaled
    x1, y1, x2, y2 = boxes.T
    # Where a point x, y of the stored image is after its orientation was undone (EXIF 2.3, tag 274).
    left, right = (y1, y2) if picture.orientation in (5, 8) else (height - y2, height - y1)
    top, bottom = (x1, x2) if picture.orientation in (5, 6) else (width - x2, width - x1)
    return np.stack([left, top, right, bottom], axis=1).astype(np.float32)
