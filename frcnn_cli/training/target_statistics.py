"""Mean and standard deviation of the box targets, so that the box loss sees zero mean and unit variance (section
2.3)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from frcnn_cli.core.annotations import GroundTruth
from frcnn_cli.core.boxes import Boxes
from frcnn_cli.recipes.recipe import Recipe
from frcnn_cli.roi.box_coder import encode
from frcnn_cli.training.roi_targets import TargetStatistics, candidates

_MIN_VARIANCE = 1e-6  # a class whose only foreground RoIs are the boxes of its objects has variance 0


def target_statistics(
    images: Iterable[tuple[Boxes, GroundTruth]], num_classes: int, recipe: Recipe
) -> TargetStatistics:
    """The means and standard deviations that normalise the regression targets: measured on the training set, or fixed
    by the recipe and equal for all classes.

    Args:
        images: for each image its proposals, float32 [P, 4], and its objects.
    """
    if recipe.targets.statistics == "fixed":
        mean = np.array([[0.0] * 4] + [recipe.targets.mean] * num_classes, np.float32)
        std = np.ones((num_classes + 1, 4))
        std[1:] = recipe.targets.std
        return TargetStatistics(mean, std.astype(np.float32))
    if recipe.network.class_agnostic:  # as if all objects were of one class
        one_class = ((boxes, GroundTruth(truth.boxes, np.zeros(len(truth), np.int64))) for boxes, truth in images)
        found = measure(one_class, 1, recipe.sampling.foreground_iou, recipe.images.flip, recipe.targets.less)
        return TargetStatistics(*(rows[[0] + [1] * num_classes] for rows in found))
    return measure(images, num_classes, recipe.sampling.foreground_iou, recipe.images.flip, recipe.targets.less)


def measure(
    images: Iterable[tuple[Boxes, GroundTruth]], num_classes: int, foreground_iou: float, flip: bool, less: int = 0
) -> TargetStatistics:
    """Mean and population standard deviation of the box deltas, per class, over all foreground RoIs; these include the
    boxes of the objects and, with `flip`, the RoIs of mirrored images. less: as in `roi.box_coder.encode`."""
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
        deltas = encode(pool.boxes[chosen], truth.boxes[match], less).astype(np.float64)
        np.add.at(count, labels, 1)
        np.add.at(total, labels, deltas)
        np.add.at(squares, labels, deltas**2)
    if flip:  # a mirrored RoI has the same deltas, except for the sign of tx
        total[:, 0] = 0
    n = np.maximum(count, 1)
    mean = total / n
    variance = squares / n - mean**2
    std = np.where(variance > _MIN_VARIANCE, np.sqrt(np.maximum(variance, 0)), 1.0)
    return TargetStatistics(mean.astype(np.float32), std.astype(np.float32))
