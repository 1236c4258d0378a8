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
from frcnn_cli.roi.rois import equal, equal_to_pooling, to_rois

_NUMBERS_AT_ONCE = 1000 * 512 * 7 * 7  # pooled, 1,000 RoIs of VGG16 take 100 MB


class Scores(NamedTuple):
    """probabilities: float32 [N, K+1], background first. boxes: float32 [N, K, 4], clipped to the image."""

    probabilities: NDArray[np.float32]
    boxes: NDArray[np.float32]


@torch.inference_mode()
def score(
    head: RoIHead,
    feature_map: Tensor,
    boxes: Boxes,
    scale: float,
    height: int,
    width: int,
    refine: bool = True,
    margins: bool = False,
) -> Scores:
    """Scores of all proposals of one image. Those that pooling cannot tell apart go through the head once, as in the
    authors' code.

    Args:
        feature_map: float [1, C, h, w], on the head's device. boxes: float32 [N, 4] in original pixels.
        scale: resized pixels per original pixel. height, width: of the original image.
        refine: boxes as the network moves them; otherwise as they are.
        margins: the outputs are those of SVMs, each class by itself. A margin m counts as the probability
            1 / (1 + exp(-m)), and the background as what no class claims.
    """
    rois = to_rois(boxes, scale, pooling=head.pooling)
    first, group = equal_to_pooling(rois, 1.0 / head.stride) if head.pooling == "max" else equal(rois)
    rois = rois[first].to(feature_map.device)
    count = max(1, _NUMBERS_AT_ONCE // (feature_map.shape[1] * head.grid**2))
    parts = [head(feature_map, rois[i : i + count]) for i in range(0, max(1, len(rois)), count)]
    logits, offsets = (torch.cat(outputs) for outputs in zip(*parts, strict=True))
    probabilities = (_of_margins(logits) if margins else logits.softmax(dim=1)).cpu().numpy()[group]
    deltas = offsets[:, 1:].cpu().numpy()[group]
    refined = decode(boxes, deltas) if refine else np.repeat(boxes[:, None], deltas.shape[1], axis=1)
    return Scores(probabilities, clip(refined, height, width))


def _of_margins(margins: Tensor) -> Tensor:
    """[R, K+1], of which the background's is not read."""
    claimed = margins[:, 1:].sigmoid()
    return torch.cat([1 - claimed.amax(dim=1, keepdim=True), claimed], dim=1)
