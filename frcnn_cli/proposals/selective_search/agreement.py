"""How many hierarchies agree on a box: the best evidence for an object that selective search has without learning.

A region that is an object survives in most colour spaces and scales, with nearly the same box; a region that the
grouping made by chance does not. Of boxes with equal support, larger ones are better: small regions find support
anywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.proposals.distinct import distinct
from frcnn_cli.system.jit import kernel

# Chosen on 64 photographs of COCO and checked on BCCD (`benchmarks/proposals.py`). A support IoU of 0.6 and
# support weighed by IoU make no difference beyond noise; without the factor for size, recall at 100 boxes is lower.
_SUPPORT_IOU = 0.75
_AREA_POWER = 0.3
_DISTINCT = 0.7
_MIN_SIDE = 10  # pixels; smaller boxes are never put first


def agreed_first(boxes: NDArray[np.int32], hierarchies: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """An order [N] of boxes: first those on which most hierarchies agree, then the others as they are.

    Args:
        boxes: int32 [N, 4], without duplicates.
        hierarchies: int64 [N], the number of hierarchies that contain exactly this box.
        count: how many boxes to put first. They overlap each other by at most 0.7: near-duplicates of the best boxes
            would otherwise fill all of these places.
    """
    large = np.flatnonzero((boxes[:, 2:] - boxes[:, :2] >= _MIN_SIDE).all(axis=1))
    if count == 0 or not len(large):
        return np.arange(len(boxes))
    exact = boxes[large].astype(np.float64)
    areas = (exact[:, 2] - exact[:, 0]) * (exact[:, 3] - exact[:, 1])
    by_area = np.argsort(areas, kind="stable")
    supported = np.empty(len(large))
    supported[by_area] = support(exact[by_area], areas[by_area], hierarchies[large[by_area]], _SUPPORT_IOU)
    best_first = large[np.argsort(-supported * areas**_AREA_POWER, kind="stable")]
    first = best_first[distinct(boxes[best_first], _DISTINCT, count)]
    others = np.ones(len(boxes), bool)
    others[first] = False
    return np.concatenate([first, np.flatnonzero(others)])


@kernel()
def support(boxes: Any, areas: Any, hierarchies: Any, iou: float) -> Any:
    """For each box the number of hierarchies of all boxes that overlap it by at least `iou`, its own included.

    Args:
        boxes: float64 [N, 4], by ascending area. areas: float64 [N]. hierarchies: int64 [N].

    Returns:
        int64 [N]. A hierarchy with several such boxes counts once for each.
    """
    found = hierarchies.copy()
    x1, y1, x2, y2 = boxes[:, 0].copy(), boxes[:, 1].copy(), boxes[:, 2].copy(), boxes[:, 3].copy()
    end = 0
    for i in range(len(boxes)):
        while end < len(boxes) and areas[i] >= iou * areas[end]:  # the IoU is at most the ratio of the areas
            end += 1
        left, top, right, bottom, area, own = x1[i], y1[i], x2[i], y2[i], areas[i], hierarchies[i]
        total = 0
        for j in range(i + 1, end):  # without branches, so that compilers make vector instructions of it
            width = max(min(right, x2[j]) - max(left, x1[j]), 0.0)
            height = max(min(bottom, y2[j]) - max(top, y1[j]), 0.0)
            shared = width * height
            supports = np.int64(shared >= iou * (area + areas[j] - shared))
            total += supports * hierarchies[j]
            found[j] += supports * own
        found[i] += total
    return found
