"""Every proposal of one image to class probabilities and refined boxes, from its conv map alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frcnn_cli.boxes import Boxes, clip
from frcnn_cli.roi.coder import decode
from frcnn_cli.roi.head import RoIHead
from frcnn_cli.roi.rois import to_rois

ROIS_AT_ONCE = 1000  # pooled, 1,000 RoIs of VGG16 take 100 MB


class Scores(NamedTuple):
    """probabilities: float32 [N, K+1], background first. boxes: float32 [N, K, 4], clipped to the image."""

    probabilities: NDArray[np.float32]
    boxes: NDArray[np.float32]


@torch.inference_mode()
def score(head: RoIHead, feature_map: Tensor, boxes: Boxes, scale: float, height: int, width: int) -> Scores:
    """Scores of all proposals of one image.

    Args:
        feature_map: float32 [1, C, h, w], on the head's device. boxes: float32 [N, 4] in original pixels.
        scale: resized pixels per original pixel. height, width: of the original image.
    """
    classes = head.cls_score.out_features
    probabilities = np.zeros((len(boxes), classes), np.float32)
    deltas = np.zeros((len(boxes), classes, 4), np.float32)
    for start in range(0, len(boxes), ROIS_AT_ONCE):
        part = slice(start, start + ROIS_AT_ONCE)
        logits, offsets = head(feature_map, to_rois(boxes[part], scale).to(feature_map.device))
        probabilities[part] = logits.softmax(dim=1).float().cpu().numpy()
        deltas[part] = offsets.float().cpu().numpy()
    refined = decode(boxes, deltas[:, 1:])
    return Scores(probabilities, clip(refined, height, width))
