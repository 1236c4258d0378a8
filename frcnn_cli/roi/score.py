"""All proposals of one image to class probabilities and refined boxes, from its conv map alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frcnn_cli.core.boxes import Boxes, clip
from frcnn_cli.core.equality import hash_of_values, same_values
from frcnn_cli.roi.box_coder import decode
from frcnn_cli.roi.levels import Map, Maps, Scales, levels, nearest_level
from frcnn_cli.roi.rois import RoIs

Network = Callable[
    [Map, RoIs], tuple[Tensor, Tensor]
]  # (conv map or pyramid, RoIs) -> logits [R, K+1], deltas [R, K+1, 4]


class Scores(NamedTuple):
    """probabilities: float32 [N, K+1], background first. boxes: float32 [N, K, 4], clipped to the image."""

    probabilities: NDArray[np.float32]
    boxes: NDArray[np.float32]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Scores) and same_values(tuple(self), tuple(other))

    def __ne__(self, other: object) -> bool:
        return not self == other  # otherwise the comparison of tuples

    def __hash__(self) -> int:
        return hash_of_values(tuple(self))


@torch.inference_mode()
def score_boxes(
    network: Network,
    maps: Maps,
    boxes: Boxes,
    scales: Scales,
    height: int,
    width: int,
    refine: bool = True,
    margins: bool = False,
    less: int = 0,
) -> Scores:
    """Scores of all proposals of one image.

    Args:
        network: from conv map and RoIs to logits and deltas.
        maps: float [1, C, h, w] on the network's device, or a tuple of them, the levels of a pyramid; a list for an
            image at several scales, where each proposal is pooled at the scale at which it is closest to 224 x 224
            pixels.
        boxes: float32 [N, 4] in original pixels.
        scales: resized pixels per original pixel, of each map.
        height, width: of the original image.
        refine: whether the boxes are those that the network predicts; otherwise the proposals themselves.
        margins: whether the class outputs are margins of independent SVMs. A margin m counts as the probability
            1 / (1 + exp(-m)), and the probability of the background is 1 minus the highest of a class.
        less: as in `box_coder.decode`.
    """
    views = levels(maps, scales)
    level = nearest_level(boxes, [scale for _, scale in views])
    outputs = [
        network(features, RoIs.of_images([boxes[level == i]], [scale])) for i, (features, scale) in enumerate(views)
    ]
    original_order = np.argsort(np.argsort(level, kind="stable"), kind="stable")
    logits, deltas = (torch.cat(parts).cpu()[original_order] for parts in zip(*outputs, strict=True))
    probabilities = (probabilities_of_margins(logits) if margins else logits.softmax(dim=1)).numpy()
    offsets = deltas[:, 1:].numpy()
    refined = decode(boxes, offsets, less) if refine else np.repeat(boxes[:, None], offsets.shape[1], axis=1)
    return Scores(probabilities, clip(refined, height, width))


def probabilities_of_margins(margins: Tensor) -> Tensor:
    """Margins [R, K+1], of which the background's is ignored, to probabilities."""
    claimed = margins[:, 1:].sigmoid()
    return torch.cat([1 - claimed.amax(dim=1, keepdim=True), claimed], dim=1)
