"""Greedy non-maximum suppression as a kernel, for the boxes of all classes of an image at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from frcnn_cli.system.jit import kernel


@kernel()
def kept_of(boxes: Any, areas: Any, ends: Any, threshold: float) -> Any:
    """Which boxes remain: those whose IoU with every better box of their class that remains is below `threshold`.

    Args:
        boxes: float64 [N, 4], x1 y1 x2 y2, class by class, best first. areas: float64 [N].
        ends: int64 [N], for each box the index after the last box of its class.

    Returns:
        bool [N].
    """
    kept = np.ones(len(boxes), np.bool_)
    for i in range(len(boxes)):
        if not kept[i]:
            continue
        for j in range(i + 1, ends[i]):
            if not kept[j]:
                continue
            width = min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0])
            height = min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1])
            inside = max(width, 0.0) * max(height, 0.0)
            union = areas[i] + areas[j] - inside
            overlap = inside / union if union > 0 else 0.0
            kept[j] = overlap < threshold
    return kept
