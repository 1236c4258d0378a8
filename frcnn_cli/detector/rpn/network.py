"""The region proposal network: from the levels of a pyramid to boxes, step by step as torchvision computes them.

Every step uses the operations of torchvision in their order, so that the same objectness and deltas give bit-identical
boxes. Only the best anchors of each level are decoded, which changes nothing.

Glossary: L levels, A anchors per cell, n anchors of a level (h * w * A), N boxes; deltas as in `roi.box_coder`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from frcnn_cli.detector.folding import DetectionLayers
from frcnn_cli.detector.rpn.config import RPNConfig
from frcnn_cli.roi.box_coder import MAX_LOG_GROWTH

_MIN_SIDE = 1e-3  # resized pixels; smaller boxes are dropped


class RegionProposalNetwork(nn.Module):
    """Conv layers that slide over every level, and beside each other objectness and deltas of A anchors per cell."""

    def __init__(self, config: RPNConfig, channels: int) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        for _ in range(config.convs):
            layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(inplace=True)]
        self.conv = nn.Sequential(*layers)
        self.conv_for_detection = DetectionLayers()
        self.cls_logits = nn.Conv2d(channels, config.anchors, 1)
        self.bbox_pred = nn.Conv2d(channels, 4 * config.anchors, 1)

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """The maps [1, C, h, w] of a pyramid, finest first -> per level the logits of objectness [n] and deltas [n, 4].

        One more level consists of every second cell of the last map.
        """
        logits, deltas = [], []
        dtype = next(self.conv.parameters()).dtype
        conv = self.conv if torch.is_grad_enabled() else self.conv_for_detection.of(self.conv)
        for level in (*maps, F.max_pool2d(maps[-1], 1, 2)):
            x = conv(level.to(dtype)).float()
            logits.append(self.cls_logits(x)[0].permute(1, 2, 0).flatten())
            deltas.append(self.bbox_pred(x)[0].permute(1, 2, 0).reshape(-1, 4))
        return logits, deltas

    @torch.inference_mode()
    def boxes(
        self,
        maps: Sequence[Tensor],
        size: tuple[int, int],
        padded: tuple[int, int],
        config: RPNConfig | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The proposals of one image.

        Args:
            maps: [1, C, h, w] per level, finest first.
            size: height and width of the resized image. padded: with the padding that the conv layers saw.
            config: other limits and thresholds than the network's own.

        Returns:
            float32 [N, 4] boxes in resized pixels, best first, and float32 [N], their objectness.
        """
        logits, deltas = self(maps)
        cells = [tuple(level.shape[2:]) for level in maps]
        cells.append(tuple((side + 1) // 2 for side in cells[-1]))
        anchors = [
            anchors_of_level(sizes, self.config.aspect_ratios, cell, padded).to(deltas[0].device)
            for sizes, cell in zip(self.config.anchor_sizes, cells, strict=True)
        ]
        return proposals_of(config or self.config, logits, deltas, anchors, size)


@lru_cache(maxsize=16)  # saves 0.4 of 38 ms for a small network; the images of a folder have few sizes
def anchors_of_level(
    sizes: tuple[int, ...], aspect_ratios: tuple[float, ...], cells: tuple[int, ...], padded: tuple[int, int]
) -> Tensor:
    """The anchors of a level of `cells` rows and columns: float32 [h * w * A, 4], in resized pixels. Not to be changed
    in place."""
    scales = torch.tensor(sizes, dtype=torch.float32)
    high = torch.tensor(aspect_ratios, dtype=torch.float32).sqrt()
    wide = 1 / high
    width, height = ((ratios[:, None] * scales[None, :]).flatten() for ratios in (wide, high))
    one = (torch.stack([-width, -height, width, height], dim=1) / 2).round()
    y, x = (torch.arange(count, dtype=torch.int32) * (side // count) for count, side in zip(cells, padded, strict=True))
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    shifts = torch.stack([columns, rows, columns, rows], dim=2).view(-1, 1, 4)
    return (shifts + one).view(-1, 4)


def proposals_of(
    config: RPNConfig,
    logits: Sequence[Tensor],
    deltas: Sequence[Tensor],
    anchors: Sequence[Tensor],
    size: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """The boxes [N, 4] of an image, best first, and their objectness [N].

    Args:
        logits: [n] per level. deltas, anchors: [n, 4] per level. size: height and width of the resized image.
    """
    from torchvision.ops import batched_nms  # imported late: torchvision imports torch._dynamo

    best = [one.topk(min(config.per_level, len(one))).indices for one in logits]
    level = torch.cat([torch.full_like(rows, i) for i, rows in enumerate(best)])
    scores = torch.cat([one[rows] for one, rows in zip(logits, best, strict=True)]).sigmoid()
    boxes = torch.cat([_decode(a[rows], d[rows]) for a, d, rows in zip(anchors, deltas, best, strict=True)])
    height, width = size
    boxes = torch.stack([boxes[:, 0::2].clamp(0, width), boxes[:, 1::2].clamp(0, height)], dim=2).flatten(1)
    sides = boxes[:, 2:] - boxes[:, :2]
    kept = torch.nonzero((sides >= _MIN_SIDE).all(dim=1) & (scores >= config.min_score)).flatten()
    boxes, scores, level = boxes[kept], scores[kept], level[kept]
    kept = batched_nms(boxes, scores, level, config.iou)[: config.count]
    return boxes[kept], scores[kept]


def _decode(anchors: Tensor, deltas: Tensor) -> Tensor:
    """Anchors and deltas, float32 [N, 4] -> boxes [N, 4]."""
    sides = anchors[:, 2:] - anchors[:, :2]
    centres = anchors[:, :2] + 0.5 * sides
    centres = deltas[:, :2] * sides + centres
    half = 0.5 * (torch.exp(deltas[:, 2:].clamp(max=MAX_LOG_GROWTH)) * sides)
    return torch.cat([centres - half, centres + half], dim=1)
