"""The multi-task loss (section 2.3): L = L_cls + lambda [u >= 1] L_loc."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from frcnn_cli.recipes.sections import Loss as LossConfig


class Losses(NamedTuple):
    """Scalars with gradient; `boxes` includes its weight lambda."""

    classification: Tensor
    boxes: Tensor

    @property
    def total(self) -> Tensor:
        return self.classification + self.boxes


def multi_task_loss(
    logits: Tensor,
    deltas: Tensor,
    labels: Tensor,
    targets: Tensor,
    config: LossConfig = LossConfig(),
    count: int | None = None,
) -> Losses:
    """Softmax cross entropy, and smooth L1 summed over the four deltas of the true class of foreground RoIs; both
    divided by the number of all sampled RoIs. A batch without RoIs has loss 0.

    Args:
        logits: [R, K+1]. deltas: [R, K+1, 4]. labels: int64 [R], 0 background.
        targets: [R, 4], normalised; rows of background RoIs are not used.
        count: the number of sampled RoIs, if these are only a part of the mini-batch.

    Raises:
        ValueError: the shapes do not match.
    """
    if logits.dim() != 2 or deltas.shape != (*logits.shape, 4) or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"expected logits [R, K+1], deltas [R, K+1, 4] and labels [R], got {list(logits.shape)},"
            f" {list(deltas.shape)} and {list(labels.shape)}"
        )
    count = max(len(labels) if count is None else count, 1)
    classification = F.cross_entropy(logits, labels, reduction="sum") / count
    foreground = torch.nonzero(labels > 0).flatten()
    predicted = deltas[foreground, labels[foreground]]
    boxes = F.smooth_l1_loss(predicted, targets[foreground], reduction="sum", beta=config.beta) / count
    return Losses(classification, config.box_weight * boxes)
