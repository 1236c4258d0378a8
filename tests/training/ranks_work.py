"""What the tests of training on several devices run in each process."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import numpy as np
import torch

from frcnn_cli.core.progress import SILENT
from frcnn_cli.detector.precision import DTYPES
from frcnn_cli.recipes.recipe import Recipe
from frcnn_cli.training.batches import _padded, like_all_ranks
from frcnn_cli.training.launch import run_ranks
from frcnn_cli.training.loss import multi_task_loss
from frcnn_cli.training.ranks import ALONE
from frcnn_cli.training.schedule import rate_at
from frcnn_cli.training.settings import RunSettings
from frcnn_cli.training.trainer import Trainer
from frcnn_cli.training.training_set import read_training_set, read_validation

CPU = torch.device("cpu")
SMALL = {
    "network.backbone": "small",
    "images.short_side": 0,
    "sampling.rois": 24,
    "sampling.background_iou": (0.0, 0.5),
    "solver.learning_rate": 0.01,
    "solver.clip_norm": 1.0,
    "solver.ema_decay": 0.9,
}


def begun(folder, data, props, changes, dtype="float32", ranks=ALONE):
    """A trainer that has done nothing yet, in float32 or float64, on one thread."""
    torch.set_num_threads(1)  # the sums of a thread are always in the same order
    recipe = Recipe().changed(SMALL | changes)
    training_set = read_training_set(RunSettings(data=data, props=props), recipe)
    run = Trainer.begin(folder, training_set, recipe, "none", {}, CPU, ranks=ranks)
    if dtype == "float64":
        DTYPES["float64"] = torch.float64  # which is for tests only
        run.detector.double()
        run.detector.precision = "float64"
        if run.average is not None:
            run.average.double()
    return run


def weights_of(run):
    return {name: value.detach().numpy().copy() for name, value in run.detector.named_parameters()}


def train(ranks, progress, stopping, *, iterations, save=False, **arguments):
    """Weights after some iterations, and the losses."""
    run = begun(ranks=ranks, **arguments)
    losses = []
    for step in run.run():
        losses.append(step.loss)
        if step.iteration == iterations:
            break
    if save:
        run.save()
    return weights_of(run), losses


def on_ranks(count, work, **arguments):
    """The result of rank 0 of some processes; without processes for 1."""
    work = partial(work, **arguments)
    return work(ALONE, SILENT, nullcontext()) if count == 1 else run_ranks(count, work, nullcontext(lambda: False))


def one_after_the_other(iterations, **arguments):
    """Like `train`, but the images of a mini-batch pass through the network one by one, and their gradients are added:
    the definition of what ranks of one image each compute."""
    run = begun(**arguments)
    detector, solver = run.detector.train(), run.recipe.solver
    for iteration in range(iterations):
        batches = [run.batches.assembler.assemble([one]) for one in run.batches.plan(iteration)]
        size = [max(batch.images.shape[axis] for batch in batches) for axis in (2, 3)]
        count = sum(len(batch.labels) for batch in batches)
        for group in run.optimiser.param_groups:
            group["lr"] = rate_at(iteration, run.total, solver) * group["rate_factor"]
        run.optimiser.zero_grad()
        for batch in batches:
            images = _padded(batch.images.unbind(), size).contiguous(memory_format=torch.channels_last)
            logits, deltas = detector(images, batch.rois)
            multi_task_loss(logits, deltas, batch.labels, batch.targets, run.recipe.loss, count).total.backward()
        trained = [parameter for group in run.optimiser.param_groups for parameter in group["params"]]
        torch.nn.utils.clip_grad_norm_(trained, solver.clip_norm)
        run.optimiser.step()
    return weights_of(run)


def validate(ranks, progress, stopping, *, settings, changes, folder):
    """The mAP of an untrained model, and the sum of a number of each rank."""
    torch.set_num_threads(1)
    recipe = Recipe().changed(SMALL | changes)
    run_settings = RunSettings(**settings)
    data = read_training_set(run_settings, recipe)
    run = Trainer.begin(folder, data, recipe, "none", {}, CPU, ranks=ranks)
    return read_validation(run_settings, data).mean_ap(run.finished(), ranks=ranks)


def padded(ranks, progress, stopping, *, sizes):
    """Shape and number of RoIs of a batch of one image per rank."""
    from frcnn_cli.roi.rois import RoIs
    from frcnn_cli.training.batches import Batch

    image = torch.ones(1, 3, *sizes[ranks.rank])
    boxes = np.zeros((ranks.rank, 4), np.float32)
    batch = Batch(image, RoIs.of_images([boxes], [1.0]), torch.zeros(ranks.rank), torch.zeros(ranks.rank, 4))
    made, count = like_all_ranks(batch, ranks)
    return ranks.merged({str(ranks.rank): (tuple(made.images.shape), float(made.images.sum()), count)})


def warn(ranks, progress, stopping):
    import warnings

    from frcnn_cli.core.errors import FrcnnWarning

    warnings.warn(FrcnnWarning("a slow kernel"), stacklevel=1)


def fail(ranks, progress, stopping, *, how, rank):
    """Rank `rank` ends in some way while the others wait for it."""
    import os
    import signal

    from frcnn_cli.core.errors import DataError

    with stopping:
        progress.note("begun")
        if ranks.rank == rank:
            if how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if how == "error":
                raise DataError("the image is gone", "Bring it back")
            if how == "memory":
                raise torch.OutOfMemoryError("tried to allocate 20 GB")
            if how == "disk":
                raise OSError(28, "No space left on device")
            if how == "defect":
                raise ZeroDivisionError("one line")
            os._exit(7)
        ranks.any(False)
