"""The head: pooled RoIs to two sibling outputs (Fast R-CNN, section 2.2).

Glossary: R RoIs, K classes, C channels, S pooling grid; logits are before softmax, deltas as in `coder`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from frcnn_cli.roi.pooling import roi_max_pool


class RoIHead(nn.Module):
    """RoI pooling, two hidden layers with dropout, then K+1 class logits beside 4(K+1) box deltas.

    Class 0 is the background; its four deltas exist, as in the authors' layer, and are never used.
    """

    def __init__(
        self, fc6: nn.Linear, fc7: nn.Linear, num_classes: int, grid: int, stride: int, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.grid = grid
        self.stride = stride
        self.dropout = dropout
        self.fc6 = fc6
        self.fc7 = fc7
        self.cls_score = nn.Linear(fc7.out_features, num_classes + 1)
        self.bbox_pred = nn.Linear(fc7.out_features, 4 * (num_classes + 1))
        for layer, spread in ((self.cls_score, 0.01), (self.bbox_pred, 0.001)):
            nn.init.normal_(layer.weight, std=spread)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor, rois: Tensor) -> tuple[Tensor, Tensor]:
        """float [B, C, h, w] and [R, 5] -> logits [R, K+1], deltas [R, K+1, 4]."""
        x = roi_max_pool(features, rois, self.grid, 1.0 / self.stride)  # [R, C, S, S]
        x = x.flatten(1)  # [R, C*S*S]
        x = F.dropout(F.relu(self.fc6(x)), self.dropout, self.training)  # [R, fc6]
        x = F.dropout(F.relu(self.fc7(x)), self.dropout, self.training)  # [R, fc7]
        return self.cls_score(x), self.bbox_pred(x).unflatten(1, (-1, 4))

    @torch.no_grad()
    def fold_normalisation(self, mean: Tensor, std: Tensor) -> None:
        """Makes the box layer give plain deltas: it was trained to give (t - mean) / std. mean, std: [K+1, 4]."""
        weight, bias = self.bbox_pred.weight, self.bbox_pred.bias
        weight.mul_(std.reshape(-1, 1).to(weight))
        bias.mul_(std.reshape(-1).to(bias)).add_(mean.reshape(-1).to(bias))
