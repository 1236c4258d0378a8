"""From a training set to mini-batches.

Batch i is a function of the data, the recipe and i alone: every random number comes from a generator seeded with
(seed, i, place of the image in the batch). So training that was interrupted after any iteration continues with the
batches it would have had, whatever the number of processes that share each batch.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import resource_tracker
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from frcnn_cli.core.annotations import GroundTruth
from frcnn_cli.core.boxes import best_overlap, covered
from frcnn_cli.core.errors import FrcnnError
from frcnn_cli.core.image import ImageRef
from frcnn_cli.data.pairing import ProposedSample
from frcnn_cli.recipes.recipe import Recipe
from frcnn_cli.roi.levels import Map, as_tuple
from frcnn_cli.roi.rois import RoIs
from frcnn_cli.system.prefetch import prefetch
from frcnn_cli.system.processes import without_main_module
from frcnn_cli.training.inputs import Inputs
from frcnn_cli.training.ranks import Ranks
from frcnn_cli.training.roi_targets import RoITargets, SampledRoIs, TargetStatistics
from frcnn_cli.training.view import View

# Not "fork": a forked process can wait forever for a lock that a thread of its parent held.
_START_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
_ON_IGNORED = 0.5  # a proposal lies on an object if at least this part of it is inside


def trainable(samples: Sequence[ProposedSample], recipe: Recipe) -> list[ProposedSample]:
    """The samples with the objects that training uses (no crowds, and objects marked difficult only if the recipe
    includes them), and at most as many proposals as the recipe allows. A proposal of which at least half lies inside an
    unused object is dropped, unless it is foreground for one that is used: an object that is not to be learned must
    not count as background."""

    def used(truth: GroundTruth) -> NDArray[np.bool_]:
        return ~truth.crowd if recipe.sampling.difficult else ~(truth.crowd | truth.difficult)

    def of_training(sample: ProposedSample) -> ProposedSample:
        kept, proposals = used(sample.truth), sample.proposals[: recipe.sampling.proposals or None]
        truth, ignored = sample.truth.where(kept), sample.truth.boxes[~kept]
        if len(ignored):
            on_ignored = best_overlap(proposals, ignored, covered)[0] >= _ON_IGNORED
            foreground = best_overlap(proposals, truth.boxes)[0] >= recipe.sampling.foreground_iou
            proposals = proposals[foreground | ~on_ignored]
        return replace(sample, truth=truth, proposals=proposals)

    return [of_training(sample) for sample in samples]


@dataclass
class Batch:
    """One mini-batch.

    images: [B, C, h, w], pixels or conv maps, padded with zeros on the right and bottom; a tuple for a pyramid.
    rois: the R sampled RoIs, in original pixels of the (perhaps mirrored) images.
    labels: int64 [R], 0 background. targets: float32 [R, 4], normalised deltas.
    """

    images: Map
    rois: RoIs
    labels: Tensor
    targets: Tensor


class PlannedImage(NamedTuple):
    """One image of a mini-batch before it is read. seed: of its random numbers in the network (dropout)."""

    ref: ImageRef
    view: View
    sampled: SampledRoIs
    seed: int


Plan = Sequence[PlannedImage]


class Batches:
    """The mini-batches of a training run, by iteration.

    A plan states what a batch consists of; `Assembler` reads the images and computes the rest, perhaps in another
    process. So worker processes need none of the proposals.
    """

    def __init__(
        self,
        samples: Sequence[ProposedSample],
        recipe: Recipe,
        statistics: TargetStatistics,
        inputs: Inputs,
        part: slice = slice(None),
    ) -> None:
        """
        Args:
            part: the images of every mini-batch that this process computes.
        """
        self.part = part
        self.samples = samples
        self.recipe = recipe
        self.roi_targets = RoITargets(recipe.sampling, statistics, recipe.targets.less)
        self.assembler = Assembler(self.roi_targets, inputs)

    def __getitem__(self, iteration: int) -> Batch:
        return self.assembler.assemble(self.plan(iteration))

    def iterate(self, start: int, stop: int, workers: int = 0) -> Iterator[Batch]:
        """Batches start .. stop - 1, computed ahead.

        Args:
            workers: number of processes that compute them; 0: threads compute them.
        """
        if not workers:
            yield from prefetch(self.__getitem__, range(start, stop))
            return
        plans = map(self.plan, range(start, stop))
        loader: DataLoader[Batch | FrcnnError] = DataLoader(
            self.assembler,
            batch_size=None,
            sampler=cast(Iterable[int], plans),  # the "index" of the assembler is a plan
            num_workers=workers,
            multiprocessing_context=_START_METHOD,
            worker_init_fn=_start_worker,
        )
        with _blocked_interrupts(), without_main_module():
            batches = iter(loader)
        for batch in batches:
            if isinstance(batch, FrcnnError):
                raise batch
            yield batch

    def plan(self, iteration: int) -> Plan:
        """The images of a batch that this process computes, the view of each, and its sampled RoIs."""
        size = self.recipe.sampling.images
        return [self._planned(iteration, place) for place in range(size)[self.part]]

    def _planned(self, iteration: int, place: int) -> PlannedImage:
        rng = np.random.default_rng([self.recipe.solver.seed, 1, iteration, place])
        sample, flip = self._sample_at(iteration * self.recipe.sampling.images + place)
        sampled = self.roi_targets.sample(sample.proposals, sample.truth, rng)
        view = View.draw(self.recipe.images, flip, rng)
        return PlannedImage(sample.ref, view, sampled, int(rng.integers(1 << 62)))

    def _sample_at(self, position: int) -> tuple[ProposedSample, bool]:
        """The sample at a position in the order of training, and whether it is mirrored. Each pass contains every image
        and every mirrored image once (instead of mirroring at random), in its own random order."""
        number, place = divmod(position, self._pass_length)
        entry = int(_order_of_pass(self.recipe.solver.seed, number, self._pass_length)[place])
        return self.samples[entry % len(self.samples)], entry >= len(self.samples)

    @property
    def _pass_length(self) -> int:
        return len(self.samples) * (2 if self.recipe.images.flip else 1)


class Assembler(Dataset["Batch | FrcnnError"]):
    """From a plan to the mini-batch. As a PyTorch data set, its "index" is the plan."""

    def __init__(self, roi_targets: RoITargets, inputs: Inputs) -> None:
        self.roi_targets = roi_targets
        self.inputs = inputs

    def __getitem__(self, plan: Plan) -> Batch | FrcnnError:
        try:
            return self.assemble(plan)
        except FrcnnError as error:  # PyTorch would raise it in the main process as a traceback of many lines
            return error

    def assemble(self, plan: Plan) -> Batch:
        """Reads the images of a mini-batch and computes its targets. Raises FrcnnError if an image cannot be read."""
        tensors, scales, boxes, labels, targets = zip(*map(self._assemble, plan), strict=True)
        return Batch(
            _batched(tensors),
            RoIs.of_images(boxes, scales, [planned.seed for planned in plan]),
            torch.from_numpy(np.concatenate(labels)),
            torch.from_numpy(np.concatenate(targets)),
        )

    def _assemble(self, planned: PlannedImage) -> tuple[Any, ...]:
        """Tensor and scale of an image, and boxes, labels and targets of its RoIs."""
        ref, view, sampled, _ = planned
        tensor, scale, width = self.inputs(ref, view)
        boxes, matched = view.of_boxes(sampled.boxes, sampled.matched, width=width)
        return tensor, scale, boxes, sampled.labels, self.roi_targets.targets(boxes, matched, sampled.labels)


@cache
def _order_of_pass(seed: int, number: int, length: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, 0, number]).permutation(length)


def _batched(images: Sequence[Map]) -> Map:
    """The images or maps of a batch as one tensor; pyramids level by level."""
    if isinstance(images[0], Tensor):
        return _padded(cast(Sequence[Tensor], images))
    return tuple(_padded(level) for level in zip(*images, strict=True))


def _padded(images: Sequence[Tensor], size: Sequence[int] = (0, 0)) -> Tensor:
    """[C, h, w] of several sizes as one [B, C, max h, max w], at least of the given size, channels last in memory,
    padded with zeros."""
    height, width = (max(size[axis], *(image.shape[axis + 1] for image in images)) for axis in (0, 1))
    shape = (len(images), height, width, images[0].shape[0])
    batch = torch.zeros(shape, dtype=images[0].dtype).permute(0, 3, 1, 2)
    for row, image in zip(batch, images, strict=True):
        row[:, : image.shape[1], : image.shape[2]] = image
    return batch


def like_all_ranks(batch: Batch, ranks: Ranks) -> tuple[Batch, int]:
    """The part of a mini-batch that a rank computes, padded like those of all ranks, and the number of RoIs of all."""
    levels = as_tuple(batch.images)
    own = torch.tensor([len(batch.labels), *(side for level in levels for side in level.shape[2:])])
    counts, *sides = ranks.gathered(own).unbind(1)
    sizes = torch.stack(sides).amax(dim=1).view(-1, 2).tolist()
    if all(level.shape[2:] == tuple(size) for level, size in zip(levels, sizes, strict=True)):
        return batch, int(counts.sum())
    padded = tuple(_padded(level.unbind(), size) for level, size in zip(levels, sizes, strict=True))
    return replace(batch, images=padded[0] if isinstance(batch.images, Tensor) else padded), int(counts.sum())


@contextmanager
def _blocked_interrupts() -> Iterator[None]:
    """Blocks Ctrl-C, also in processes that are started within: it is for the main process only."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # otherwise it starts with the first process, and unblocks Ctrl-C
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(number: int) -> None:
    """Prepares a worker process: it leaves Ctrl-C and a closed terminal to the main process, and uses one thread."""
    import cv2

    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):  # Windows has no SIGHUP
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    cv2.setNumThreads(1)
