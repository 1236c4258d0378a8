"""The head: pooled RoIs to two sibling outputs (Fast R-CNN, section 2.2).

Glossary: R RoIs, K classes, C channels, S pooling grid; logits are before softmax, deltas as in `coder`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from frcnn_cli.roi.linear import linear
from frcnn_cli.roi.pooling import roi_align, roi_max_pool
from frcnn_cli.roi.rois import Pooling
from frcnn_cli.roi.svd import low_rank

HIDDEN = ("fc6", "fc7")


class RoIHead(nn.Module):
    """RoI pooling, hidden layers, then K+1 class logits beside 4(K+1) box deltas.

    The hidden layers are two linear ones with dropout (fc6, fc7), or conv layers whose mean over cells is taken
    (conv5). They may be of another precision than the outputs, which are float32. Class 0 is the background; its four
    deltas exist, as in the authors' layer, and are never used.

    fc6 reads a pooled RoI as pooling leaves it in memory, [S, S, C], where a classification network reads [C, S, S].
    """

    def __init__(
        self,
        hidden: tuple[nn.Linear, nn.Linear] | nn.Sequential,
        num_classes: int,
        grid: int,
        stride: int,
        dropout: float = 0.5,
        ranks: Mapping[str, int] | None = None,
        pooling: Pooling = "max",
        shift: float = 0.0,
        class_agnostic: bool = False,
    ) -> None:
        """
        Args:
            pooling: RoI max pooling, or RoI align (aligned, 2 x 2 samples a bin).
            shift: resized pixels by which the cells of the map lie off; RoI align makes up for it.
            class_agnostic: one box for all classes.
            hidden: layers of a classification network. Of two linear ones the first reads [C, S, S] and is turned to
                read [S, S, C].
            ranks: hidden layers, by name, that stand as two of that rank (truncated SVD); their weights are not set.
        """
        super().__init__()
        self.grid = grid
        self.stride = stride
        self.dropout = dropout
        self.pooling: Pooling = pooling
        self.shift = shift
        ranks = ranks or {}
        if isinstance(hidden, nn.Sequential):
            self.conv5 = hidden
            outputs = _channels_of(hidden)
        else:
            fc6, fc7 = hidden
            outputs = fc7.out_features
            fc6.weight = nn.Parameter(to_channels_last(fc6.weight.detach(), grid))
            self.fc6 = low_rank(fc6, ranks["fc6"]) if "fc6" in ranks else fc6
            self.fc7 = low_rank(fc7, ranks["fc7"]) if "fc7" in ranks else fc7
        self.cls_score = nn.Linear(outputs, num_classes + 1)
        self.bbox_pred = nn.Linear(outputs, 4 * (1 if class_agnostic else num_classes + 1))
        for layer, spread in ((self.cls_score, 0.01), (self.bbox_pred, 0.001)):
            nn.init.normal_(layer.weight, std=spread)
            nn.init.zeros_(layer.bias)

    @property
    def hidden(self) -> dict[str, nn.Module]:
        """The hidden layers by name: fc6 and fc7, or conv5."""
        return {name: getattr(self, name) for name in (*HIDDEN, "conv5") if hasattr(self, name)}

    @property
    def widths(self) -> tuple[int, ...]:
        """How many units each hidden layer has."""
        if "fc7" not in self.hidden:
            return (self.cls_score.in_features,)
        first = next(layer.in_features for layer in self.fc7.modules() if isinstance(layer, nn.Linear))
        return first, self.cls_score.in_features

    def forward(self, features: Tensor, rois: Tensor) -> tuple[Tensor, Tensor]:
        """float [B, C, h, w] and [R, 5] -> float32 logits [R, K+1], deltas [R, K+1, 4]."""
        x = self.hidden_features(features, rois)
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            logits: Tensor = self.cls_score(x)
            return logits, self.bbox_pred(x).unflatten(1, (-1, 4)).expand(-1, logits.shape[1], -1)

    def hidden_features(self, features: Tensor, rois: Tensor) -> Tensor:
        """What the two outputs read: [R, D]."""
        if not torch.is_autocast_enabled(features.device.type):
            features = features.to(next(p for layer in self.hidden.values() for p in layer.parameters()).dtype)
        x = self._pool(features, rois)  # [R, C, S, S], channels last in memory
        return self._through_conv5(x) if "conv5" in self.hidden else self._through_fc(x)

    def _through_fc(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1).flatten(1)  # [R, S*S*C], without a copy
        x = F.dropout(F.relu(linear(self.fc6, x)), self.dropout, self.training)  # [R, fc6]
        return F.dropout(F.relu(linear(self.fc7, x)), self.dropout, self.training)  # [R, fc7]

    def _through_conv5(self, x: Tensor) -> Tensor:
        if not len(x):  # convs may refuse to work on nothing
            return x.new_zeros(0, self.cls_score.in_features)
        deep: Tensor = self.conv5(x)
        return deep.mean(dim=(2, 3))

    def _pool(self, features: Tensor, rois: Tensor) -> Tensor:
        if self.pooling == "max":
            return roi_max_pool(features, rois, self.grid, 1.0 / self.stride)
        shifted = rois - torch.tensor([0, *[self.shift] * 4], device=rois.device)
        return roi_align(features, shifted, self.grid, 1.0 / self.stride, sampling_ratio=2, aligned=True)

    @torch.no_grad()
    def fold_normalisation(self, mean: Tensor, std: Tensor) -> None:
        """Makes the box layer give plain deltas: it was trained to give (t - mean) / std. mean, std: [K+1, 4]."""
        weight, bias = self.bbox_pred.weight, self.bbox_pred.bias
        if len(bias) == 4:  # class-agnostic: every class has the same
            mean, std = mean[1], std[1]
        weight.mul_(std.reshape(-1, 1).to(weight))
        bias.mul_(std.reshape(-1).to(bias)).add_(mean.reshape(-1).to(bias))


def _channels_of(conv: nn.Sequential) -> int:
    """Channels of what comes out: those of the last conv there is."""
    return next(module.out_channels for module in reversed(list(conv.modules())) if isinstance(module, nn.Conv2d))


def to_channels_last(weight: Tensor, grid: int) -> Tensor:
    """Weights [out, C*S*S] that read [C, S, S], as weights that read [S, S, C]; a copy."""
    channels = weight.shape[1] // grid**2
    return weight.view(-1, channels, grid**2).transpose(1, 2).reshape(weight.shape).contiguous()
