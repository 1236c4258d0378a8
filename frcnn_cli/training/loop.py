"""The training loop: end-to-end fine-tuning by SGD (section 2.3).

`Trainer.run` yields after every iteration, so whoever calls it shows progress and decides when to stop; what it did so
far can be saved at any such moment.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from frcnn_cli.errors import FrcnnError, MismatchError, explain_os_error
from frcnn_cli.features.backbones import build
from frcnn_cli.files import write_whole
from frcnn_cli.image import Image, ImageRef
from frcnn_cli.model import MODEL_FILE, Detector, ModelConfig
from frcnn_cli.recipes.recipe import Recipe
from frcnn_cli.training.average import Average
from frcnn_cli.training.batches import Batch, Batches, TrainingImage, trained_on
from frcnn_cli.training.checkpoint import STATE_FILE, Kept, RunState, read_state, restore, save_state
from frcnn_cli.training.inputs import CachedMaps, Inputs
from frcnn_cli.training.log import LOG_FILE, RunLog, Step, read_log
from frcnn_cli.training.loss import Losses, multi_task_loss
from frcnn_cli.training.normalisation import Normalisation, normalisation
from frcnn_cli.training.optimiser import optimiser
from frcnn_cli.training.schedule import rate_at
from frcnn_cli.training.svm import fit_svms
from frcnn_cli.training.validation import Validation

BEST_FILE = "best.safetensors"
CONFIG_FILE = "config.json"
_LOG_EVERY = 10  # iterations
_ALIKE = 1e-6  # between logits


class Trainer:
    """A run: data, model, optimiser, and how far it has come. Make one with `begin` or `resume`."""

    def __init__(
        self,
        folder: Path,
        images: Sequence[TrainingImage],
        detector: Detector,
        normalisation: Normalisation,
        state: RunState,
        inputs: Inputs,
        device: torch.device,
    ) -> None:
        self.folder = folder
        self.state = state
        self.recipe = state.recipe
        self.normalisation = normalisation
        self.device = device
        self.stage_length = self.recipe.iterations(len(images))
        self.total = self.recipe.stages * self.stage_length
        self.batches = Batches(trained_on(images, self.recipe), self.recipe, normalisation, inputs)
        self.detector = detector.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        for module in list(detector.conv)[: state.frozen]:
            module.requires_grad_(False)
        self.optimiser = optimiser(detector, self.recipe.solver)
        self.average = Average(detector, self.recipe.solver.average) if self.recipe.solver.average else None
        self.log = RunLog(folder / LOG_FILE)
        self._owns_folder = self._saved = state.iteration > 0

    @classmethod
    def begin(
        cls,
        folder: Path,
        images: Sequence[TrainingImage],
        model: ModelConfig,
        recipe: Recipe,
        weights: str | Path,
        data: dict[str, Any],
        images_digest: str,
        inputs: Inputs,
        device: torch.device,
    ) -> Trainer:
        """A new run: weights loaded or drawn, target statistics measured, the folder made. A run that lies there stays
        until this one writes something."""
        torch.manual_seed(recipe.solver.seed)
        backbone = build(model.network.backbone, weights, model.network.fine)
        frozen = backbone.frozen_before(recipe.network.train_from)
        detector = Detector(model, backbone)
        targets = normalisation(
            ((image.proposals, image.truth) for image in trained_on(images, recipe)), len(model.classes), recipe
        )
        from_maps = isinstance(inputs, CachedMaps)
        if isinstance(inputs, CachedMaps):
            inputs.check_weights(detector.features_id)
            frozen = len(detector.conv)
        state = RunState(0, model, recipe, frozen, from_maps, data, images_digest)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explain_os_error(error, folder) from None
        return cls(folder, images, detector, targets, state, inputs, device)

    @classmethod
    def resume(
        cls,
        folder: Path,
        images: Sequence[TrainingImage],
        images_digest: str,
        inputs: Inputs,
        device: torch.device,
    ) -> Trainer:
        """The run in `folder`, from its last checkpoint.

        Raises:
            FrcnnError: no checkpoint, a damaged one, or images or proposals that have changed since.
        """
        state, tensors = read_state(folder)
        if state.images_digest != images_digest:
            raise MismatchError(
                "the images, annotations, proposals or conv maps have changed since this run began",
                "Start anew with --force",
            )
        if isinstance(inputs, CachedMaps) != state.from_maps:
            raise MismatchError("the run began with conv maps, or without", "Give --features as it was begun with")
        detector = Detector(state.model, build(state.model.network.backbone, "none", state.model.network.fine))
        trained = {
            name
            for name, _ in detector.named_parameters()
            if not (name.startswith("conv.") and int(name.split(".")[1]) < state.frozen)
        }
        kept = restore(tensors, detector, trained if state.iteration else set(), state.recipe, folder / STATE_FILE)
        if isinstance(inputs, CachedMaps):
            inputs.check_weights(detector.features_id)
        trainer = cls(folder, images, detector, kept.normalisation, state, inputs, device)
        for name, parameter in trainer.detector.named_parameters():
            if name in kept.momentum:
                # In the parameter's own memory order: the fused optimiser walks both side by side.
                buffer = torch.empty_like(parameter).copy_(kept.momentum[name])
                trainer.optimiser.state[parameter]["momentum_buffer"] = buffer
        if trainer.average is not None and state.iteration:
            trainer.average.restore(kept.average)
        trainer.log.cut_after(state.iteration)
        return trainer

    def run(self) -> Iterator[Step]:
        """Trains to the end, yielding after each iteration.

        Raises:
            FrcnnError: the loss is not finite; the last checkpoint stays as it is.
        """
        self.detector.train()
        before = time.perf_counter()
        for batch in self.batches.from_iteration(self.state.iteration, self.total):
            iteration = self.state.iteration
            # Dropout too draws from (seed, iteration), so that a resumed run is the very same run.
            torch.manual_seed(self.recipe.solver.seed * 1_000_003 + iteration)
            rate = rate_at(iteration % self.stage_length, self.stage_length, self.recipe.solver)
            for group in self.optimiser.param_groups:
                group["lr"] = rate * group["rate_factor"]
            self._enter_stage()
            classification, boxes, foreground, all_alike = self._train_on(batch)
            self.state = replace(self.state, iteration=iteration + 1)
            now = time.perf_counter()
            step = Step(
                iteration + 1,
                self.total,
                (iteration + 1) * self.recipe.sampling.images / len(self.batches.images),
                classification + boxes,
                classification,
                boxes,
                foreground,
                len(batch.labels) - foreground,
                rate,
                now - before,
                all_alike,
            )
            self.log.pending.append(step)
            if step.iteration % _LOG_EVERY == 0 or step.iteration == self.total:
                self._write_log()
            yield step
            before = time.perf_counter()  # what whoever called did in between is not training

    def _train_on(self, batch: Batch) -> tuple[float, float, int, bool]:
        device = self.device
        images = batch.images.to(device, memory_format=torch.channels_last, non_blocking=True)
        labels = batch.labels.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=self._half):
            features = images if self.state.from_maps else self._conv(images)
            logits, deltas = self.detector.head(features, batch.rois.to(device))
        losses = multi_task_loss(logits, deltas, labels, batch.targets.to(device), self.recipe.loss)
        classification, boxes = losses.classification.item(), losses.boxes.item()
        if not math.isfinite(classification + boxes):
            kept = self._last_checkpoint()
            raise FrcnnError(
                f"the loss is {classification + boxes} at iteration {self.state.iteration + 1}; {kept}",
                f"Train with a lower learning rate than --lr {self.recipe.solver.learning_rate:g}",
            )
        self.optimiser.zero_grad(set_to_none=True)
        self._minimised(losses).backward()  # type: ignore[no-untyped-call]
        if self.recipe.solver.clip_norm:
            trained = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
            torch.nn.utils.clip_grad_norm_(trained, self.recipe.solver.clip_norm)
        self.optimiser.step()
        if self.average is not None:
            self.average.update(self.state.iteration)
        all_alike = len(logits) > 1 and bool((logits.detach() - logits.detach()[:1]).abs().max() < _ALIKE)
        return classification, boxes, int((batch.labels > 0).sum()), all_alike

    def _enter_stage(self) -> None:
        """In the second of two stages only the box layer learns."""
        if self.state.iteration >= self.stage_length:
            for name, parameter in self.detector.named_parameters():
                parameter.requires_grad_(name.startswith("head.bbox_pred"))

    def _minimised(self, losses: Losses) -> Tensor:
        """The loss of this stage."""
        if self.recipe.stages == 1:
            return losses.total
        first = self.state.iteration < self.stage_length
        # Times 0, so that the box layer has a gradient and its momentum from the beginning.
        return losses.classification + 0 * losses.boxes if first else losses.boxes

    @property
    def _half(self) -> bool:
        """Whether layers compute in half precision: bfloat16, whose range is float32's, so no loss scaling."""
        return self.recipe.solver.precision == "auto" and self.device.type == "cuda" and torch.cuda.is_bf16_supported()

    def _conv(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            fixed = self.detector.conv[: self.state.frozen](images)
        features: Tensor = self.detector.conv[self.state.frozen :](fixed)
        return features

    def _last_checkpoint(self) -> str:
        if not self._saved:
            return "there is no checkpoint of this run yet"
        return f"the checkpoint of iteration {read_state(self.folder)[0].iteration} is kept in {self.folder}"

    def save(self) -> None:
        """Writes the model and the checkpoint. A run whose weights are no longer finite keeps its last good ones."""
        for name, value in self.detector.named_parameters():
            if not bool(torch.isfinite(value).all()):
                raise FrcnnError(
                    f"the weights {name} hold NaN or infinity after iteration {self.state.iteration};"
                    f" {self._last_checkpoint()}",
                    f"Train with a lower learning rate than --lr {self.recipe.solver.learning_rate:g}",
                )
        self._write_log()
        self._own_folder()
        self.finished().save(self.folder / MODEL_FILE)
        kept = Kept(self._momentum(), self.average.weights if self.average else {}, self.normalisation)
        save_state(self.folder, self.state, self.detector, kept)
        self._saved = True

    def finished(self) -> Detector:
        """The model as detection wants it: averaged if the recipe says so, its boxes no longer normalised. It has the
        softmax that it was trained with; see `with_svms`."""
        made: Detector = copy.deepcopy(self.detector).eval()
        if self.average is not None:
            made.load_state_dict(self.average.weights, strict=False)
        made.head.fold_normalisation(*map(torch.from_numpy, self.normalisation))
        made.set_classifier("softmax")
        return made

    def wants_svms(self) -> bool:
        """Whether all is trained but the SVMs of the recipe."""
        if self.recipe.network.classifier == "softmax" or self.state.iteration < self.total:
            return False
        return Detector.load(self.folder).config.network.classifier == "softmax"

    def save_with_svms(self, read: Callable[[ImageRef], Image], tell: Callable[[], None] = lambda: None) -> None:
        """Fits SVMs in place of the softmax, and saves the model. `tell` is called twice for each image."""
        made = self.finished()
        fit_svms(made, self.batches.images, read, tell)
        made.set_classifier("svm")
        made.save(self.folder / MODEL_FILE)

    def validate(self, validation: Validation, tell: Callable[[], None] = lambda: None) -> float:
        """Evaluates the model as it is now, logs its mAP, and keeps it as `best.safetensors` if none was better."""
        made = self.finished()
        found = validation.mean_ap(made, tell)
        self._own_folder()
        before = [value for _, value in self.validated()]
        self._write_log()
        line = {"iteration": self.state.iteration, "total": self.total, "validation_map": round(found, 6)}
        self.log.write({name: value for name, value in line.items() if value == value})
        if found > max(before, default=-1.0):
            made.save(self.folder / BEST_FILE)
        return found

    def validated(self) -> list[tuple[int, float]]:
        """Iteration and mAP of each validation so far."""
        lines = read_log(self.log.path)
        return [(int(line["iteration"]), line["validation_map"]) for line in lines if "validation_map" in line]

    def _momentum(self) -> dict[str, Tensor]:
        state = self.optimiser.state
        return {
            name: state[parameter]["momentum_buffer"]
            for name, parameter in self.detector.named_parameters()
            if state.get(parameter, {}).get("momentum_buffer") is not None
        }

    def _write_log(self) -> None:
        if self.log.pending:
            self._own_folder()
            self.log.write_pending(self.recipe.sampling.images)

    def _own_folder(self) -> None:
        """Clears a run away that lies there, whole, before the first thing of this one is written: never parts of both
        beside each other."""
        if self._owns_folder:
            return
        self._owns_folder = True
        try:
            for name in (STATE_FILE, MODEL_FILE, BEST_FILE, LOG_FILE):
                (self.folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise explain_os_error(error, self.folder) from None
        write_whole(self.folder / CONFIG_FILE, (json.dumps(self.state.to_json(), indent=2) + "\n").encode())


def images_digest(
    images: Sequence[TrainingImage], digests: Sequence[str], maps: Mapping[str, Any] | None = None
) -> str:
    """Which images, objects, proposals and conv maps a run learns from, as one hash.

    Args:
        digests: the images' content hashes. maps: the provenance of the features file, if one is learnt from.
    """
    total = hashlib.blake2b(json.dumps(maps, sort_keys=True).encode() if maps else b"", digest_size=16)
    for image, digest in zip(images, digests, strict=True):
        total.update(f"{image.ref.key} {digest} {len(image.truth)} {len(image.proposals)}\n".encode())
        for array in (image.truth.boxes, image.truth.labels, image.truth.difficult, image.proposals):
            total.update(array.tobytes())
    return total.hexdigest()
