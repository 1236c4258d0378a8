"""Detections on the picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.annotations import Detections
from frcnn_cli.picture import class_colour, draw_boxes


def draw(pixels: NDArray[np.uint8], detections: Detections, classes: Sequence[str]) -> NDArray[np.uint8]:
    """The picture with a box, the class and the score of each detection, the best on top; uint8 [H, W, 3]."""
    texts = [
        f"{classes[int(label)]} {score:.2f}" for label, score in zip(detections.labels, detections.scores, strict=True)
    ]
    colours = [class_colour(int(label), len(classes)) for label in detections.labels]
    return draw_boxes(pixels, detections.boxes, texts, colours)
