"""From a data set with proposals to mini-batches.

Batch i is a function of the data, the configuration and i alone: every draw comes from a generator seeded with (seed,
i). So training stopped after any iteration goes on with the very batches it would have had.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frcnn_cli.annotations import GroundTruth
from frcnn_cli.boxes import Boxes, flip_horizontally
from frcnn_cli.data.prefetch import prefetch
from frcnn_cli.image import ImageRef
from frcnn_cli.recipes.recipe import Recipe
from frcnn_cli.roi.coder import encode
from frcnn_cli.roi.rois import to_rois
from frcnn_cli.training.colours import Colours
from frcnn_cli.training.inputs import Inputs, Look
from frcnn_cli.training.normalisation import Normalisation
from frcnn_cli.training.sampling import sample_rois


@dataclass(frozen=True)
class TrainingImage:
    """One image of the training set, its objects and its proposals."""

    ref: ImageRef
    truth: GroundTruth
    proposals: Boxes


def trained_on(images: Sequence[TrainingImage], recipe: Recipe) -> list[TrainingImage]:
    """The images with the objects that training learns from, all but crowds, and those marked difficult if the recipe
    has them; and with as many proposals as it has."""

    def learnt(truth: GroundTruth) -> NDArray[np.bool_]:
        return ~truth.crowd if recipe.sampling.difficult else ~(truth.crowd | truth.difficult)

    most = recipe.sampling.proposals or None
    return [
        replace(image, truth=image.truth.where(learnt(image.truth)), proposals=image.proposals[:most])
        for image in images
    ]


@dataclass
class Batch:
    """images: [B, C, h, w], pixels or conv maps, padded with zeros below and to the right. rois: float32 [R, 5].
    labels: int64 [R]. targets: float32 [R, 4], normalised."""

    images: Tensor
    rois: Tensor
    labels: Tensor
    targets: Tensor


class Batches:
    """The batches of a training run, by iteration."""

    def __init__(
        self,
        images: Sequence[TrainingImage],
        recipe: Recipe,
        normalisation: Normalisation,
        inputs: Inputs,
    ) -> None:
        self.images = images
        self.recipe = recipe
        self.normalisation = normalisation
        self.inputs = inputs
        self._order = cache(self._order_of_pass)

    def from_iteration(self, start: int, stop: int) -> Iterator[Batch]:
        """Batches start .. stop - 1, made ahead on threads."""
        return prefetch(self.batch, range(start, stop))

    def batch(self, iteration: int) -> Batch:
        rng = np.random.default_rng([self.recipe.solver.seed, 1, iteration])
        size = self.recipe.sampling.images
        looks = [self._look(position) for position in range(iteration * size, (iteration + 1) * size)]
        parts = [self._image_part(image, flip, index, rng) for index, (image, flip) in enumerate(looks)]
        pixels, rois, labels, targets = zip(*parts, strict=True)
        return Batch(_stacked(pixels), torch.cat(rois), torch.cat(labels), torch.cat(targets))

    def _look(self, position: int) -> tuple[TrainingImage, bool]:
        """Which image, and whether mirrored, is the position-th to be seen: passes over all images and their mirror
        images, each pass in an order of its own (every image twice, not mirrored by chance)."""
        number, place = divmod(position, self._looks_a_pass)
        entry = int(self._order(number)[place])
        return self.images[entry % len(self.images)], entry >= len(self.images)

    @property
    def _looks_a_pass(self) -> int:
        return len(self.images) * (2 if self.recipe.images.flip else 1)

    def _order_of_pass(self, number: int) -> NDArray[np.int64]:
        return np.random.default_rng([self.recipe.solver.seed, 0, number]).permutation(self._looks_a_pass)

    def _image_part(
        self, image: TrainingImage, flip: bool, index: int, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        count = self.recipe.sampling.rois // self.recipe.sampling.images
        boxes, labels, matched = sample_rois(image.proposals, image.truth, count, self.recipe.sampling, rng)
        shown, scale, width = self.inputs(image.ref, self._drawn(flip, rng))
        if flip:
            boxes, matched = (flip_horizontally(b, width) for b in (boxes, matched))
        mean, std = self.normalisation
        targets = (encode(boxes, matched) - mean[labels]) / std[labels]
        return (
            shown,
            to_rois(boxes, scale, index, self.recipe.network.pooling),
            torch.from_numpy(labels),
            torch.from_numpy(targets),
        )

    def _drawn(self, flip: bool, rng: np.random.Generator) -> Look:
        """How the image is looked at this time. What a recipe leaves alone draws nothing."""
        images = self.recipe.images
        side = int(rng.choice(images.train_short_sides)) if images.train_short_sides else None
        colours = Colours.drawn(images.colour_jitter, rng) if images.colour_jitter else None
        return Look(flip, side, colours)


def _stacked(images: Sequence[Tensor]) -> Tensor:
    """[C, h, w] of several sizes as one [B, C, max h, max w], channels last in memory, padded with zeros."""
    height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
    shape = (len(images), height, width, images[0].shape[0])
    batch = torch.zeros(shape, dtype=images[0].dtype).permute(0, 3, 1, 2)
    for row, image in zip(batch, images, strict=True):
        row[:, : image.shape[1], : image.shape[2]] = image
    return batch
