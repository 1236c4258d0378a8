"""Mean and spread of the box targets, so that the box loss sees zero mean and unit variance (section 2.3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.annotations import GroundTruth
from frcnn_cli.boxes import Boxes
from frcnn_cli.recipes.recipe import Recipe
from frcnn_cli.roi.coder import encode
from frcnn_cli.training.sampling import candidates

_LEAST_VARIANCE = 1e-6  # a class whose only foreground RoIs are its own objects has none at all


class Normalisation(NamedTuple):
    """mean, std: float32 [K+1, 4], by class (0, the background: 0 and 1) and delta."""

    mean: NDArray[np.float32]
    std: NDArray[np.float32]


def normalisation(images: Iterable[tuple[Boxes, GroundTruth]], num_classes: int, recipe: Recipe) -> Normalisation:
    """As the recipe says: measured, or fixed and the same for every class."""
    if recipe.targets.statistics == "fixed":
        rows = (np.array([[0.0] * 4] + [recipe.targets.mean] * num_classes, np.float32), np.ones((num_classes + 1, 4)))
        rows[1][1:] = recipe.targets.std
        return Normalisation(rows[0], rows[1].astype(np.float32))
    if recipe.network.class_agnostic:  # as if all objects were of one class
        one = ((boxes, GroundTruth(truth.boxes, np.zeros(len(truth), np.int64))) for boxes, truth in images)
        found = target_statistics(one, 1, recipe.sampling.foreground_iou, recipe.images.flip)
        return Normalisation(*(rows[[0] + [1] * num_classes] for rows in found))
    return target_statistics(images, num_classes, recipe.sampling.foreground_iou, recipe.images.flip)


def target_statistics(
    images: Iterable[tuple[Boxes, GroundTruth]], num_classes: int, foreground_iou: float, flip: bool
) -> Normalisation:
    """Population mean and standard deviation over all foreground RoIs, objects' own boxes and flips included."""
    count = np.zeros((num_classes + 1, 1))
    total = np.zeros((num_classes + 1, 4))
    squares = np.zeros((num_classes + 1, 4))
    for proposals, truth in images:
        pool = candidates(proposals, truth)
        chosen = np.flatnonzero(pool.overlap >= foreground_iou)
        if not len(chosen):
            continue
        match = pool.match[chosen]
        labels = truth.labels[match] + 1
        deltas = encode(pool.boxes[chosen], truth.boxes[match]).astype(np.float64)
        np.add.at(count, labels, 1)
        np.add.at(total, labels, deltas)
        np.add.at(squares, labels, deltas**2)
    if flip:  # a mirrored RoI has the same deltas but for the sign of tx
        total[:, 0] = 0
    n = np.maximum(count, 1)
    mean = total / n
    variance = squares / n - mean**2
    std = np.where(variance > _LEAST_VARIANCE, np.sqrt(np.maximum(variance, 0)), 1.0)
    return Normalisation(mean.astype(np.float32), std.astype(np.float32))
