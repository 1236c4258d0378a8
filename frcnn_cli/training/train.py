"""`train`: labelled images and proposals -> a detector."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from frcnn_cli.core.progress import SILENT, Progress
from frcnn_cli.core.run_files import BEST_FILE, MODEL_FILE, STATE_FILE
from frcnn_cli.data.dataset import Dataset
from frcnn_cli.detector.detector import Detector
from frcnn_cli.recipes.recipe import Recipe
from frcnn_cli.system.processes import started_together
from frcnn_cli.training.init_recipe import recipe_from_init
from frcnn_cli.training.launch import RankEndedError, Stopping, run_ranks
from frcnn_cli.training.ranks import ALONE, Ranks, check_ranks, joined
from frcnn_cli.training.resume import continued, longer, recorded_run
from frcnn_cli.training.run_folder import check_free, new_run_folder, only_training_in
from frcnn_cli.training.settings import RunSettings, adapted, check_settings
from frcnn_cli.training.trainer import Trainer
from frcnn_cli.training.training_set import read_training_set, read_validation
from frcnn_cli.training.watch import Watch, check_tensorboard, iterations_of, tensorboard_writer


@dataclass(frozen=True)
class RunOptions:
    """How a run proceeds. It is not recorded; results on different devices differ by rounding only.

    device: as in `Detector.load`. checkpoint_every: epochs. workers: processes that prepare mini-batches; 0: threads.
    tensorboard: also write event files. deterministic: deterministic GPU algorithms.
    devices: processes that train together, one per GPU or on a share of the cores each. Under torchrun, which starts
    them itself, 1.
    """

    device: str = "auto"
    checkpoint_every: float = 1.0
    workers: int = 0
    tensorboard: bool = False
    deterministic: bool = False
    devices: int = 1


@dataclass(frozen=True)
class TrainingSummary:
    """The outcome of a run.

    folder: of the run. iterations: finished, of `total`. seconds: duration of this call.
    loss: a running mean at the end; None if no iteration was done. stopped: whether it was stopped before the end.
    fitted_svms: whether this call fitted the SVMs.
    validated: iteration and mAP of each validation, also of earlier calls.
    """

    folder: Path
    iterations: int
    total: int
    seconds: float
    loss: float | None
    stopped: bool
    fitted_svms: bool
    validated: list[tuple[int, float]]

    @property
    def best_model(self) -> Path:
        """The model with the best validation mAP, or the last one without validation."""
        best = self.folder / BEST_FILE
        return best if best.is_file() else self.folder / MODEL_FILE


def train(
    data: str | Dataset,
    proposals: str | Path,
    output: str | Path | None = None,
    *,
    recipe: str | Recipe | None = None,
    changes: Mapping[str, Any] | None = None,
    split: str | None = None,
    weights: str | Path = "imagenet",
    init: str | Path | None = None,
    features: str | Path | None = None,
    classes: Sequence[str] | None = None,
    validate_on: str | None = None,
    val_data: str | None = None,
    val_proposals: str | Path | None = None,
    validate_every: float = 1.0,
    patience: int | None = None,
    bad_boxes: str = "error",
    size_mismatch: str = "error",
    bad_images: str = "error",
    device: str = "auto",
    devices: int = 1,
    workers: int = 0,
    resume: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> Detector:
    """Trains a detector and returns it; the folder of the run keeps model, checkpoint and log.

        detector = train("voc:my-data", "props.h5", "runs/my", recipe="modern", changes={"solver.epochs": 8})

    Args:
        data: the text that names a data set (see `load_dataset`), or a `Dataset`.
        proposals: a proposals file of its images (see `propose_images`).
        output: the folder of the run; by default a new one below ./runs.
        recipe: "paper" (the default), "modern", a TOML file, or a `Recipe`.
        changes: values of the recipe to change, by `section.name`.
        split: see `load_dataset`.
        weights: of the backbone: "imagenet" (downloaded), "none" (random), or the path of a state dict.
        init: a model to start from: the path of a run or model file, or the name of a pretrained detector ("coco"). Its
            network and images replace those of the recipe, which is then "modern" by default.
        features: a features file with maps of mirrored images; only the head is then trained.
        classes: use only objects of these classes.
        validate_on: a split whose mAP is computed every `validate_every` epochs; the best model is then returned.
        val_data: the data set of that split; by default `data`. val_proposals: its proposals; by default `proposals`.
        patience: stop after this many validations without improvement.
        bad_boxes: "error" or "fix"; size_mismatch: "error", "scale" or "keep"; see `load_dataset`.
        bad_images: "error", or "skip" to leave out images that cannot be read and that `proposals` therefore lacks.
        device: "auto", "cpu", "cuda" or "cuda:N".
        devices: the number of GPUs, or of processes on the CPU, that train together; at most the images per mini-batch.
        workers: see `RunOptions`; per device.
        resume: continue the run in `output`, which must have been begun with the same arguments.
        force: replace a run in the folder.

    Raises:
        FrcnnError: a file that cannot be read, files that do not belong together, an existing run, or a loss that is
            not finite.
    """
    start = recipe if recipe is not None else ("paper" if init is None else "modern")
    chosen = Recipe.load(start) if isinstance(start, str) else start
    if init is not None:
        chosen = recipe_from_init(str(init), chosen)
    chosen = chosen.changed(changes or {})
    settings = RunSettings(
        data=data if isinstance(data, str) else data.title,
        split=split,
        props=str(proposals),
        features=None if features is None else str(features),
        weights=str(weights),
        init=None if init is None else str(init),
        classes=None if classes is None else ",".join(classes),
        bad_boxes=bad_boxes,
        size_mismatch=size_mismatch,
        bad_images=bad_images,
        validate_on=validate_on,
        val_data=val_data,
        val_props=None if val_proposals is None else str(val_proposals),
        validate_every=validate_every,
        patience=patience,
    )
    name = data if isinstance(data, str) else f"data:{data.name}"
    folder = Path(output) if output is not None else new_run_folder(name, chosen.network.backbone)
    if resume:
        stated = {name: value for name, value in settings.to_json().items() if name != "split" or value is not None}
        continued(folder, stated, lambda own: adapted(settings, chosen))
    elif not force:
        check_free(folder)
    dataset = None if isinstance(data, str) else data
    about = RunOptions(device=device, workers=workers, devices=devices)
    summary = run_training(
        folder, settings, chosen, about, resume=resume, force=force, dataset=dataset, progress=progress
    )
    return Detector.load(summary.best_model, device)


def run_training(
    folder: Path,
    settings: RunSettings,
    recipe: Recipe,
    options: RunOptions = RunOptions(),
    *,
    resume: bool = False,
    force: bool = False,
    dataset: Dataset | None = None,
    stopping: Stopping = nullcontext(lambda: False),
    progress: Progress = SILENT,
) -> TrainingSummary:
    """Runs or continues a training run. Its settings and recipe decide about checkpoints, validation and SVMs.

    Args:
        resume: continue the run in `folder`. force: replace a run in it.
        dataset: replaces the data set that the settings name.
        stopping: a context for the iterations. After each of them, its value states whether to save and stop.

    Raises:
        FrcnnError: see `train`.
    """
    if resume:
        recipe = longer(recorded_run(folder)[1], recipe)
    recipe = adapted(settings, recipe)
    check_settings(settings, recipe)
    started = started_together()
    count = options.devices if started is None else started.count
    check_ranks(count, recipe.sampling.images)
    if options.tensorboard:
        check_tensorboard()
    work = partial(_run, folder, settings, recipe, options, resume, dataset)
    with only_training_in(folder) if started is None or started.rank == 0 else nullcontext():
        if not resume and not force and (started is None or started.rank == 0):
            check_free(folder)
        if started is not None:
            with joined(Ranks.of(started)) as ranks:
                return work(ranks, progress if ranks.is_first else SILENT, stopping)
        if count > 1:
            return _on_devices(folder, count, work, stopping, progress)
        return work(ALONE, progress, stopping)


def _on_devices(folder: Path, count: int, work: Any, stopping: Stopping, progress: Progress) -> TrainingSummary:
    try:
        summary: TrainingSummary = run_ranks(count, work, stopping, progress)
    except RankEndedError as error:
        saved = (folder / STATE_FILE).exists()
        error.fix = "--resume continues from the last checkpoint" if saved else "No checkpoint was written before"
        raise
    return summary


def _run(
    folder: Path, settings: RunSettings, recipe: Recipe, options: RunOptions, resume: bool, dataset: Dataset | None,
    ranks: Ranks, progress: Progress, stopping: Stopping,
) -> TrainingSummary:  # fmt: skip
    """The part of one rank."""
    device = ranks.device(options.device)
    if options.deterministic:
        _use_deterministic_algorithms()
    data = read_training_set(settings, recipe, dataset)
    for note in data.notes:
        progress.warn(note)
    without = f", without {len(data.left_out)} that cannot be read" if data.left_out else ""
    progress.note(f"training on {data.title}: {len(data.samples)} images{without}")
    settings = replace(settings, split=data.split or settings.split)
    if resume:
        trainer = Trainer.resume(folder, data, device, options.workers, recipe, ranks)
    else:
        recorded = settings.to_json() | {"left_out": list(data.left_out)}
        trainer = Trainer.begin(
            folder, data, recipe, settings.weights, recorded, device, options.workers, settings.init, progress, ranks
        )
    validation = read_validation(settings, data) if settings.validate_on else None
    for note in validation.notes if validation else ():
        progress.warn(note)
    started = time.perf_counter()
    loss, stopped = None, False
    if trainer.state.iteration < trainer.total:
        with ExitStack() as stack:
            writes = options.tensorboard and ranks.is_first
            writer = stack.enter_context(tensorboard_writer(folder)) if writes else None
            watch = Watch(trainer, validation, settings.validate_every, settings.patience, writer, progress)
            loss, stopped = _iterate(trainer, watch, options.checkpoint_every, stopping, progress)
    elif not (folder / MODEL_FILE).is_file():  # it could not be written after the last checkpoint
        trainer.save()
    fits_svms = not stopped and ranks.from_first(trainer.needs_svms)
    if fits_svms and ranks.is_first:
        trainer.save_with_svms(progress)
    seconds = time.perf_counter() - started
    validated = trainer.validated() if validation else []
    done = trainer.state.iteration
    return TrainingSummary(folder, done, trainer.total, seconds, loss, stopped, fits_svms, validated)


def _iterate(
    trainer: Trainer,
    watch: Watch,
    checkpoint_every: float,
    stopping: Stopping,
    progress: Progress,
) -> tuple[float, bool]:
    """Trains until the end or until it is stopped, and saves; returns the running mean of the loss, and whether it was
    stopped."""
    every = iterations_of(trainer, checkpoint_every)
    loss = rate = 0.0
    stopped = False
    done = trainer.state.iteration
    with stopping as should_stop, progress.task("train", trainer.total, "it", done) as bar:
        for step in trainer.run():
            now = trainer.recipe.sampling.images / step.seconds
            rate = now if rate == 0 else 0.9 * rate + 0.1 * now
            loss = step.loss if loss == 0 else 0.9 * loss + 0.1 * step.loss
            bar.say(
                f"epoch {step.epoch:.2f}  mean loss {loss:.3f} (now class {step.loss_classification:.3f},"
                f" box {step.loss_boxes:.3f})  fg {step.foreground}/{step.foreground + step.background}"
                f"  lr {step.learning_rate:.2g}  {rate:.1f} images/s"
            )
            bar.advance()
            early = watch.after(step)
            stop = trainer.ranks.any(should_stop())
            if early:
                trainer.write_log()
            if stop or early or step.iteration % every == 0 or step.iteration == step.total:
                trainer.save()
            if stop or early:
                stopped = stop and step.iteration < step.total
                break
    return loss, stopped


def _use_deterministic_algorithms() -> None:
    """Deterministic algorithms on GPUs; cuBLAS needs its workspace configured before its first use."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
