"""Boxes drawn on pixels."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

if TYPE_CHECKING:
    from frcnn_cli.core.annotations import Detections

Colour = tuple[int, int, int]


def draw_boxes(
    pixels: NDArray[np.uint8], boxes: NDArray[np.float32], texts: Sequence[str], colours: Sequence[Colour]
) -> NDArray[np.uint8]:
    """The image with boxes, each in its colour with its text (which may be empty), the first on top.

    Args:
        pixels: uint8 [H, W, 3] RGB; not modified.
        boxes: float32 [N, 4], x1 y1 x2 y2.

    Returns:
        uint8 [H, W, 3].
    """
    image = Pillow.fromarray(np.array(pixels))
    canvas = ImageDraw.Draw(image)
    short = min(image.size)
    width = max(1, round(short / 240))
    font = ImageFont.load_default(size=max(9, round(short / 36)))
    for box, text, colour in list(zip(boxes, texts, colours, strict=True))[::-1]:
        x1, y1, x2, y2 = (float(v) for v in box)
        # Pillow counts both corners as inside; a box of ours ends before x2, y2.
        canvas.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=colour, width=width)
        if not text:
            continue
        _, _, right, bottom = canvas.textbbox((0, 0), text, font=font)
        left = min(max(0.0, x1), max(0.0, image.width - right - 4))
        top = y1 - bottom - 3 if y1 > bottom + 3 else y1
        canvas.rectangle((left, top, left + right + 3, top + bottom + 2), fill=colour)
        dark = sum(c * w for c, w in zip(colour, (0.3, 0.59, 0.11), strict=True)) < 140
        canvas.text((left + 2, top), text, font=font, fill=(255, 255, 255) if dark else (0, 0, 0))
    return np.asarray(image)


def draw_detections(pixels: NDArray[np.uint8], detections: Detections) -> NDArray[np.uint8]:
    """The image with a box, class and score per detection, the best on top; uint8 [H, W, 3]."""
    classes = detections.classes
    texts = [
        f"{classes[label] if classes else label} {score:.2f}"
        for label, score in zip(detections.labels.tolist(), detections.scores.tolist(), strict=True)
    ]
    count = len(classes) or int(detections.labels.max(initial=0)) + 1
    colours = [class_colour(label, count) for label in detections.labels.tolist()]
    return draw_boxes(pixels, detections.boxes, texts, colours)


def contact_sheet(images: Sequence[NDArray[np.uint8]], columns: int) -> NDArray[np.uint8]:
    """Images side by side in cells of one size, row by row, on white.

    Args:
        images: each uint8 [h, w, 3].
    """
    height, width = (max(image.shape[axis] for image in images) + 6 for axis in (0, 1))
    rows = -(-len(images) // columns)
    sheet = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for i, image in enumerate(images):
        top = i // columns * height + (height - image.shape[0]) // 2
        left = i % columns * width + (width - image.shape[1]) // 2
        sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
    return sheet


def class_colour(label: int, count: int) -> Colour:
    """A colour per class, spread around the colour wheel."""
    r, g, b = colorsys.hsv_to_rgb(label / max(count, 1), 0.85, 0.95)
    return round(255 * r), round(255 * g), round(255 * b)
