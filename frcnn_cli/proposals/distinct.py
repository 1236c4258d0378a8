"""Dropping boxes that are almost equal to a better one, so that the best N boxes are N different boxes."""

from __future__ import annotations

from typing import Any

import numpy as np

from frcnn_cli.system.jit import kernel


@kernel()
def distinct(boxes: Any, max_iou: float, most: int = 1 << 62) -> Any:
    """The boxes that overlap no better kept box by more than `max_iou`, at most `most` of them.

    Two boxes with IoU above t have areas within a factor t of each other, so boxes are binned by area, and each box is
    compared only with the kept boxes of its own bin and of the two neighbouring bins. At t = 0.9 these are about 1/30
    of all boxes.

    Args:
        boxes: [N, 4], x1 y1 x2 y2, best first.
        max_iou: in (0, 1]; at 1 all boxes are kept, even duplicates.

    Returns:
        int64 [M], indices of the kept boxes, best first.
    """
    kept = np.empty(len(boxes), np.int64)
    count = 0
    step = max(-np.log(max_iou), 1e-3)
    last = np.full(int(45 / step) + 3, -1, np.int64)  # per bin, the latest kept box; areas up to e**45
    before = np.empty(len(boxes), np.int64)  # for each kept box, the previous one in its bin
    for i in range(len(boxes)):
        if count >= most:
            break
        x1, y1, x2, y2 = boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3]
        area = np.float64(x2 - x1) * np.float64(y2 - y1)
        size = min(max(int(np.log(max(area, 1e-9)) / step), 0), len(last) - 3) + 1
        new = True
        for near in range(size - 1, size + 2):
            j = last[near]
            while new and j >= 0:
                w = min(x2, boxes[j, 2]) - max(x1, boxes[j, 0])
                h = min(y2, boxes[j, 3]) - max(y1, boxes[j, 1])
                if w > 0 and h > 0:
                    shared = np.float64(w) * np.float64(h)
                    other = np.float64(boxes[j, 2] - boxes[j, 0]) * np.float64(boxes[j, 3] - boxes[j, 1])
                    if shared > max_iou * (area + other - shared):
                        new = False
                j = before[j]
        if new:
            before[i] = last[size]
            last[size] = i
            kept[count] = i
            count += 1
    return kept[:count]
