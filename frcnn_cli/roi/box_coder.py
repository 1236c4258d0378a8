"""Boxes as offsets from proposals, and back (R-CNN, appendix C).

The authors' code of 2015 takes the width of a box as the difference of its last and first pixel, one less than its
width (`less=1`); their later code, and the recipe `paper`, take the width itself (`less=0`). Decoded boxes differ by
less than a pixel.

Glossary: p proposal, g ground truth; x, y centre, w, h size; deltas t = (tx, ty, tw, th).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# exp of a raw network output may overflow; a box grows at most by this factor (Detectron's bound: 1000 / 16).
MAX_LOG_GROWTH = float(np.log(1000.0 / 16.0))
_MIN_SIZE = 1e-3  # pixels; avoids a division by zero for proposals without area


def encode(proposals: NDArray[Any], targets: NDArray[Any], less: int = 0) -> NDArray[np.float32]:
    """tx = (gx - px) / pw, ty = (gy - py) / ph, tw = log(gw / pw), th = log(gh / ph).

    Args:
        proposals, targets: [N, 4] boxes, matched row by row.
        less: pixels that are subtracted from widths and heights; see above.

    Returns:
        float32 [N, 4] deltas, not normalised.

    Raises:
        ValueError: the shapes differ or are not [N, 4].
    """
    if proposals.ndim != 2 or proposals.shape[1:] != (4,) or proposals.shape != targets.shape:
        raise ValueError(f"expected two arrays [N, 4], got {list(proposals.shape)} and {list(targets.shape)}")
    p_centre, p_size = _centre_and_size(proposals, less)
    g_centre, g_size = _centre_and_size(targets, less)
    deltas = np.concatenate([(g_centre - p_centre) / p_size, np.log(g_size / p_size)], axis=1)
    return deltas.astype(np.float32)


def decode(proposals: NDArray[Any], deltas: NDArray[Any], less: int = 0) -> NDArray[np.float32]:
    """The inverse of `encode`, for any number of deltas per proposal.

    Args:
        proposals: [N, 4]. deltas: [N, K, 4]. less: as in `encode`.

    Returns:
        float32 [N, K, 4] boxes, not clipped.

    Raises:
        ValueError: other shapes.
    """
    if proposals.ndim != 2 or deltas.ndim != 3 or (len(proposals), 4) != (len(deltas), deltas.shape[2]):
        raise ValueError(f"expected [N, 4] and [N, K, 4], got {list(proposals.shape)} and {list(deltas.shape)}")
    centre, size = _centre_and_size(proposals, less)
    deltas = deltas.astype(np.float64)
    new_centre = deltas[..., :2] * size[:, None] + centre[:, None]
    new_size = np.exp(np.minimum(deltas[..., 2:], MAX_LOG_GROWTH)) * size[:, None]
    return np.concatenate([new_centre - new_size / 2, new_centre + new_size / 2 + less], axis=-1).astype(np.float32)


def _centre_and_size(boxes: NDArray[Any], less: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    boxes = boxes.astype(np.float64)
    size = np.maximum(boxes[:, 2:] - boxes[:, :2] - less, _MIN_SIZE)
    return boxes[:, :2] + size / 2, size
