"""Boxes of one image to vectors: what the outputs of a detector read, from its conv map alone."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from frcnn_cli.core.boxes import Boxes
from frcnn_cli.roi.head import RoIHead
from frcnn_cli.roi.levels import Maps, Scales, levels, nearest_level
from frcnn_cli.roi.rois import RoIs
from frcnn_cli.roi.score import probabilities_of_margins


@torch.inference_mode()
def vectors_of_boxes(
    head: RoIHead, maps: Maps, boxes: Boxes, scales: Scales, layer: str, classify: bool, margins: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A vector per box, and its class probabilities.

    Args:
        maps, boxes, scales, margins: as in `score.score_boxes`.
        layer: as in `RoIHead.vectors`.
        classify: whether the probabilities are needed; otherwise they may be [N, 0].

    Returns:
        float32 [N, D] vectors and [N, K+1] probabilities, background first.
    """
    views = levels(maps, scales)
    level = nearest_level(boxes, [scale for _, scale in views])
    parts = [
        head.vectors(features, RoIs.of_images([boxes[level == i]], [scale]), layer, classify)
        for i, (features, scale) in enumerate(views)
    ]
    original_order = np.argsort(np.argsort(level, kind="stable"), kind="stable")
    vectors, logits = (torch.cat(each).cpu()[original_order] for each in zip(*parts, strict=True))
    probabilities = probabilities_of_margins(logits) if margins and classify else logits.softmax(dim=1)
    return vectors.numpy(), probabilities.numpy()
