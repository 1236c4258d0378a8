"""The head: pooled RoIs to two sibling outputs (Fast R-CNN, section 2.2).

Glossary: R RoIs, K classes, C channels, S bins per side; logits are before softmax, deltas as in `box_coder`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from frcnn_cli.roi.dropout import RoIDropout
from frcnn_cli.roi.levels import Map, as_tuple
from frcnn_cli.roi.linear import linear
from frcnn_cli.roi.pooler import RoIPooler, Windows
from frcnn_cli.roi.rois import RoIs
from frcnn_cli.roi.svd import low_rank

HIDDEN = ("fc6", "fc7")
_MAX_POOLED_NUMBERS = 1000 * 512 * 7 * 7  # the pooled features of 1,000 RoIs of VGG16 take 100 MB


class RoIHead(nn.Module, ABC):
    """RoI pooling, hidden layers, then K+1 class logits beside 4(K+1) box deltas.

    The hidden layers are those of a subclass; their precision may differ from that of the outputs, which is float32.
    Class 0 is the background; its four deltas exist, as in the authors' layer, and are never used.
    """

    cls_score: nn.Linear
    bbox_pred: nn.Linear

    def __init__(self, pooler: RoIPooler) -> None:
        super().__init__()
        self.pooler = pooler

    def forward(self, features: Map, rois: RoIs) -> tuple[Tensor, Tensor]:
        """float [B, C, h, w], or the levels of a pyramid, and R RoIs -> float32 logits [R, K+1], deltas [R, K+1, 4].

        Without gradients, only one of the RoIs that pooling cannot tell apart goes through the hidden layers, like in
        the authors' code, and the RoIs are computed in chunks, 1,000 at a time for VGG16. Each keeps its own box, from
        which its deltas are decoded; the authors give all of them the box of one, which moves a quarter of the boxes by
        up to 10 pixels.
        """
        maps = as_tuple(features)
        windows = self.pooler.windows(rois)
        if torch.is_grad_enabled():
            return self._outputs(maps, windows.to(maps[0].device), self.dropout_of(rois))
        first, group = self.pooler.unique(windows)
        windows = windows.at(first).to(maps[0].device)
        count = max(1, _MAX_POOLED_NUMBERS // (maps[0].shape[1] * self.pooler.bins))
        parts = [slice(i, i + count) for i in range(0, max(1, len(windows.corners)), count)]
        chunks = [self._outputs(maps, windows.at(part)) for part in parts]
        logits, deltas = (torch.cat(outputs)[group] for outputs in zip(*chunks, strict=True))
        return logits, deltas

    def hidden_features(self, features: Map, rois: RoIs) -> Tensor:
        """What the two outputs read: [R, D]."""
        maps = as_tuple(features)
        return self._hidden_of_windows(maps, self.pooler.windows(rois).to(maps[0].device))

    def vectors(self, features: Map, rois: RoIs, layer: str, classify: bool = True) -> tuple[Tensor, Tensor]:
        """A vector per RoI, and the class logits: [R, D], [R, K+1]; in chunks like `forward`.

        Args:
            layer: "hidden": what the two outputs read; "pooled": the pooled map, flattened from [C, H, W]; "mean": its
                mean over the bins.
            classify: whether the logits are needed; otherwise they may be [R, 0].
        """
        maps = as_tuple(features)
        windows = self.pooler.windows(rois).to(maps[0].device)
        dtype = next(p for layer in self.hidden_layers().values() for p in layer.parameters()).dtype
        maps = tuple(one.to(dtype) for one in maps)
        count = max(1, _MAX_POOLED_NUMBERS // (maps[0].shape[1] * self.pooler.bins))
        found = []
        for i in range(0, max(1, len(windows.corners)), count):
            pooled = self.pooler(maps, windows.at(slice(i, i + count)))
            vectors = pooled.float().mean(dim=(2, 3)) if layer == "mean" else pooled.flatten(1).float()
            logits = vectors.new_zeros(len(pooled), 0)
            if classify or layer == "hidden":
                hidden = self.through_hidden(pooled).float()
                logits = self.cls_score(hidden)
                vectors = hidden if layer == "hidden" else vectors
            found.append((vectors, logits))
        vectors, logits = (torch.cat(parts) for parts in zip(*found, strict=True))
        return vectors, logits

    @abstractmethod
    def hidden_layers(self) -> dict[str, nn.Module]:
        """The hidden layers by name."""

    def widths(self) -> tuple[int, ...]:
        """The number of units of each hidden layer."""
        return (self.cls_score.in_features,)

    @abstractmethod
    def through_hidden(self, x: Tensor, drop: RoIDropout | None = None) -> Tensor:
        """Pooled RoIs [R, C, H, W], channels last in memory -> [R, D]."""

    def dropout_of(self, rois: RoIs) -> RoIDropout | None:
        """The dropout of a batch, if the head uses any now."""
        return None

    @torch.no_grad()
    def fold_normalisation(self, mean: Tensor, std: Tensor) -> None:
        """Makes the box layer, which was trained to give (t - mean) / std, give t itself.

        Args:
            mean, std: [K+1, 4].
        """
        weight, bias = self.bbox_pred.weight, self.bbox_pred.bias
        if len(bias) == 4:  # class-agnostic: every class has the same
            mean, std = mean[1], std[1]
        weight.mul_(std.reshape(-1, 1).to(weight))
        bias.mul_(std.reshape(-1).to(bias)).add_(mean.reshape(-1).to(bias))

    def _add_outputs(self, units: int, num_classes: int, class_agnostic: bool) -> None:
        self.cls_score = nn.Linear(units, num_classes + 1)
        self.bbox_pred = nn.Linear(units, 4 * (1 if class_agnostic else num_classes + 1))
        for layer, std in ((self.cls_score, 0.01), (self.bbox_pred, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def _outputs(
        self, maps: tuple[Tensor, ...], windows: Windows, drop: RoIDropout | None = None
    ) -> tuple[Tensor, Tensor]:
        x = self._hidden_of_windows(maps, windows, drop)  # [R, D]
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.cls_score.weight.dtype)
            logits: Tensor = self.cls_score(x)  # [R, K+1]
            deltas = self.bbox_pred(x).unflatten(1, (-1, 4))  # [R, K+1 or 1, 4]
            return logits, deltas.expand(-1, logits.shape[1], -1)

    def _hidden_of_windows(self, maps: tuple[Tensor, ...], windows: Windows, drop: RoIDropout | None = None) -> Tensor:
        if not torch.is_autocast_enabled(maps[0].device.type):
            dtype = next(p for layer in self.hidden_layers().values() for p in layer.parameters()).dtype
            maps = tuple(one.to(dtype) for one in maps)
        return self.through_hidden(self.pooler(maps, windows), drop)


class FullyConnectedHead(RoIHead):
    """Two fully connected hidden layers with ReLU and dropout (fc6, fc7), as in the paper.

    fc6 reads a pooled RoI in the memory order that pooling writes, [H, W, C]; a classification network reads
    [C, H, W].
    """

    def __init__(
        self,
        hidden: tuple[nn.Linear, nn.Linear],
        pooler: RoIPooler,
        num_classes: int,
        dropout: float = 0.5,
        ranks: Mapping[str, int] | None = None,
        class_agnostic: bool = False,
    ) -> None:
        """
        Args:
            hidden: fc6 and fc7 of a classification network; fc6 reads [C, H, W] and is reordered to read [H, W, C].
            ranks: by name, hidden layers that consist of two layers of that rank (truncated SVD); their weights are
                not set.
            class_agnostic: one box for all classes.
        """
        super().__init__(pooler)
        self.dropout = dropout
        ranks = ranks or {}
        fc6, fc7 = hidden
        fc6.weight = nn.Parameter(to_channels_last(fc6.weight.detach(), pooler.bins))
        self.fc6 = low_rank(fc6, ranks["fc6"]) if "fc6" in ranks else fc6
        self.fc7 = low_rank(fc7, ranks["fc7"]) if "fc7" in ranks else fc7
        self._add_outputs(fc7.out_features, num_classes, class_agnostic)

    def hidden_layers(self) -> dict[str, nn.Module]:
        return {"fc6": self.fc6, "fc7": self.fc7}

    def widths(self) -> tuple[int, ...]:
        first = next(layer.in_features for layer in self.fc7.modules() if isinstance(layer, nn.Linear))
        return first, self.cls_score.in_features

    def dropout_of(self, rois: RoIs) -> RoIDropout | None:
        return RoIDropout(self.dropout, rois) if self.training and self.dropout else None

    def through_hidden(self, x: Tensor, drop: RoIDropout | None = None) -> Tensor:
        x = x.permute(0, 2, 3, 1).flatten(1)  # [R, H*W*C], without a copy
        for layer in (self.fc6, self.fc7):
            x = F.relu(linear(layer, x))  # [R, fc6], [R, fc7]
            x = x if drop is None else drop(x)
        return x


class ConvFullyConnectedHead(RoIHead):
    """Conv layers that keep the size of the grid, then one fully connected layer (He et al., 2018, "Group
    Normalization", section 5.2; the head of torchvision's second version of Faster R-CNN)."""

    def __init__(
        self, convs: nn.Sequential, fc6: nn.Linear, pooler: RoIPooler, num_classes: int, class_agnostic: bool = False
    ) -> None:
        """
        Args:
            convs: [R, C, H, W] -> [R, D, H, W]. fc6: reads [D, H, W] and is reordered to read [H, W, D].
        """
        super().__init__(pooler)
        self.convs = convs
        fc6.weight = nn.Parameter(to_channels_last(fc6.weight.detach(), pooler.bins))
        self.fc6 = fc6
        self._add_outputs(fc6.out_features, num_classes, class_agnostic)

    def hidden_layers(self) -> dict[str, nn.Module]:
        return {"convs": self.convs, "fc6": self.fc6}

    def through_hidden(self, x: Tensor, drop: RoIDropout | None = None) -> Tensor:
        if not len(x):  # some conv layers refuse an empty batch
            return x.new_zeros(0, self.cls_score.in_features)
        x = self.convs(x).permute(0, 2, 3, 1).flatten(1)  # [R, H*W*D]
        return F.relu(linear(self.fc6, x))  # [R, fc6]


class ConvHead(RoIHead):
    """Conv layers as hidden layers (conv5), averaged over the cells: "C4", as in the ResNet paper."""

    def __init__(
        self, conv5: nn.Sequential, pooler: RoIPooler, num_classes: int, channels: int, class_agnostic: bool = False
    ) -> None:
        """
        Args:
            channels: C, of the conv map.
        """
        super().__init__(pooler)
        self.conv5 = conv5
        with torch.no_grad():
            pooled = torch.zeros(1, channels, *pooler.grid, device=next(conv5.parameters()).device)
            units = conv5(pooled).shape[1]
        self._add_outputs(units, num_classes, class_agnostic)

    def hidden_layers(self) -> dict[str, nn.Module]:
        return {"conv5": self.conv5}

    def through_hidden(self, x: Tensor, drop: RoIDropout | None = None) -> Tensor:
        if not len(x):  # some conv layers refuse an empty batch
            return x.new_zeros(0, self.cls_score.in_features)
        deep: Tensor = self.conv5(x)  # [R, D, .., ..]
        return deep.mean(dim=(2, 3))


def to_channels_last(weight: Tensor, bins: int) -> Tensor:
    """Weights [out, C*H*W] that read [C, H, W], as weights that read [H, W, C]; a copy."""
    channels = weight.shape[1] // bins
    return weight.view(-1, channels, bins).transpose(1, 2).reshape(weight.shape).contiguous()
