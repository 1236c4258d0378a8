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
from frcnn_cli.roi.levels import Maps, Scales, levels, nearest_level
from frcnn_cli.roi.rois import equal, equal_to_pooling, to_rois

_NUMBERS_AT_ONCE = 1000 * 512 * 7 * 7  # pooled, 1,000 RoIs of VGG16 take 100 MB


class Scores(NamedTuple):
    """probabilities: float32 [N, K+1], background first. boxes: float32 [N, K, 4], clipped to the image."""

    probabilities: NDArray[np.float32]
    boxes: NDArray[np.float32]


@torch.inference_mode()
def score(
    head: RoIHead,
    maps: Maps,
    boxes: Boxes,
    scales: Scales,
    height: int,
    width: int,
    refine: bool = True,
    margins: bool = False,
) -> Scores:
    """Scores of all proposals of one image.

    Args:
        maps: float [1, C, h, w], on the head's device; several of an image that is looked at in several sizes, where
            each proposal is pooled from the one in which it is nearest 224 x 224 pixels.
        boxes: float32 [N, 4] in original pixels.
        scales: resized pixels per original pixel, of each map. height, width: of the original image.
        refine: boxes as the network moves them; otherwise as they are.
        margins: the outputs are those of SVMs, each class by itself. A margin m counts as the probability
            1 / (1 + exp(-m)), and the background as what no class claims.
    """
    looks = levels(maps, scales)
    level = nearest_level(boxes, [scale for _, scale in looks])
    outputs = [_outputs(head, one, boxes[level == i], scale) for i, (one, scale) in enumerate(looks)]
    back = np.argsort(np.argsort(level, kind="stable"), kind="stable")  # from by level to as they came
    logits, deltas = (torch.cat(parts).cpu()[back] for parts in zip(*outputs, strict=True))
    probabilities = (_of_margins(logits) if margins else logits.softmax(dim=1)).numpy()
    offsets = deltas[:, 1:].numpy()
    refined = decode(boxes, offsets) if refine else np.repeat(boxes[:, None], offsets.shape[1], axis=1)
    return Scores(probabilities, clip(refined, height, width))


def _outputs(head: RoIHead, feature_map: Tensor, boxes: Boxes, scale: float) -> tuple[Tensor, Tensor]:
    """Logits and deltas of proposals on one map. Those that pooling cannot tell apart go through the head once, as in
    the authors' code."""
    rois = to_rois(boxes, scale, pooling=head.pooling)
    first, group = equal_to_pooling(rois, 1.0 / head.stride) if head.pooling == "max" else equal(rois)
    rois = rois[first].to(feature_map.device)
    count = max(1, _NUMBERS_AT_ONCE // (feature_map.shape[1] * head.grid**2))
    parts = [head(feature_map, rois[i : i + count]) for i in range(0, max(1, len(rois)), count)]
    logits, deltas = (torch.cat(outputs)[group] for outputs in zip(*parts, strict=True))
    return logits, deltas


def _of_margins(margins: Tensor) -> Tensor:
    """[R, K+1], of which the background's is not read."""
    claimed = margins[:, 1:].sigmoid()
    return torch.cat([1 - claimed.amax(dim=1, keepdim=True), claimed], dim=1)
