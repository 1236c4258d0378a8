"""The multi-task loss (section 2.3): L = Lcls + [u >= 1] Lloc."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from frcnn_cli.recipes.sections import Loss as LossConfig


class Losses(NamedTuple):
    """Scalars with gradient; `boxes` is weighted already."""

    classification: Tensor
    boxes: Tensor

    @property
    def total(self) -> Tensor:
        return self.classification + self.boxes


def multi_task_loss(
    logits: Tensor, deltas: Tensor, labels: Tensor, targets: Tensor, config: LossConfig = LossConfig()
) -> Losses:
    """Softmax cross entropy, and smooth L1 summed over the four deltas of the true class of foreground RoIs; both
    divided by the number of all sampled RoIs. A batch without RoIs has loss 0.

    Args:
        logits: [R, K+1]. deltas: [R, K+1, 4]. labels: int64 [R], 0 background. targets: [R, 4], normalised; rows of
            background are not read.
    """
    count = max(len(labels), 1)
    classification = F.cross_entropy(logits, labels, reduction="sum") / count
    foreground = torch.nonzero(labels > 0).flatten()
    predicted = deltas[foreground, labels[foreground]]
    boxes = F.smooth_l1_loss(predicted, targets[foreground], reduction="sum", beta=config.beta) / count
    return Losses(classification, config.box_weight * boxes)
