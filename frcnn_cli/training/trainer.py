"""One training run: end-to-end fine-tuning by SGD (section 2.3).

`Trainer.run` yields after every iteration, so that its caller shows progress and decides when to save, validate and
stop.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from frcnn_cli.core.decoding import read_ref
from frcnn_cli.core.errors import FrcnnError, MismatchError
from frcnn_cli.core.progress import SILENT, Progress
from frcnn_cli.core.run_files import BEST_FILE, LOG_FILE, MODEL_FILE, STATE_FILE
from frcnn_cli.detector.config import ModelConfig
from frcnn_cli.detector.detector import Detector
from frcnn_cli.features.backbones import build_network
from frcnn_cli.recipes.recipe import Recipe
from frcnn_cli.roi.levels import mapped
from frcnn_cli.training.batches import Batch, Batches, like_all_ranks, trainable
from frcnn_cli.training.checkpoint import RunState, TrainingTensors, read_state, restore, save_state
from frcnn_cli.training.initialise import initialise
from frcnn_cli.training.inputs import CachedMaps
from frcnn_cli.training.log import RunLog, Step, read_log
from frcnn_cli.training.loss import Losses, multi_task_loss
from frcnn_cli.training.optimisation import averaged_weights, make_average, make_optimiser, restore_average
from frcnn_cli.training.ranks import ALONE, Ranks, check_ranks
from frcnn_cli.training.roi_targets import TargetStatistics
from frcnn_cli.training.run_folder import RunFolder
from frcnn_cli.training.schedule import rate_at
from frcnn_cli.training.svm import fit_svms
from frcnn_cli.training.target_statistics import target_statistics
from frcnn_cli.training.training_set import TrainingSet
from frcnn_cli.training.validation import Validation

_LOG_EVERY = 10  # iterations
_EQUAL = 1e-6  # difference of logits


class Trainer:
    """A run: data, model, optimiser, and how far it has come. Create one with `begin` or `resume`."""

    def __init__(
        self, folder: Path, data: TrainingSet, detector: Detector, statistics: TargetStatistics, state: RunState,
        device: torch.device, workers: int = 0, ranks: Ranks = ALONE,
    ) -> None:  # fmt: skip
        check_ranks(ranks.count, state.recipe.sampling.images)
        self.ranks = ranks
        self.folder = folder
        self.state = state
        self.recipe = state.recipe
        self.statistics = statistics
        self.device = device
        self.workers = workers
        self.data = data
        self.stage_length = self.recipe.iterations(len(data.samples))
        self.total = self.recipe.stages * self.stage_length
        part = ranks.part(self.recipe.sampling.images)
        self.batches = Batches(trainable(data.samples, self.recipe), self.recipe, statistics, data.inputs, part)
        self.detector = detector.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        for module in list(detector.conv)[: state.frozen]:
            module.requires_grad_(False)
        self._network: Callable[..., Any] | None = None  # made in the first iteration of each stage
        self.optimiser = make_optimiser(detector, self.recipe.solver)
        self.trained = {name for name, value in detector.named_parameters() if value.requires_grad}
        decay = self.recipe.solver.ema_decay
        self.average = make_average(detector, decay) if decay else None
        self.log = RunLog(folder / LOG_FILE)
        self._files = RunFolder(folder, owned=state.iteration > 0)
        self._saved = state.iteration > 0

    @classmethod
    def begin(
        cls, folder: Path, data: TrainingSet, recipe: Recipe, weights: str | Path, recorded: dict[str, Any],
        device: torch.device, workers: int = 0, init: str | None = None, progress: Progress = SILENT,
        ranks: Ranks = ALONE,
    ) -> Trainer:  # fmt: skip
        """A new run. A run in the folder is kept until this one writes its first file.

        Args:
            weights: of the backbone, as in `features.backbones.build`.
            recorded: JSON values that the checkpoint records about the data.
            workers: processes that prepare mini-batches.
            init: a model whose weights replace `weights` wherever their shapes fit (see `initialise`).
            ranks: this process among those that train together.
        """
        torch.manual_seed(recipe.solver.seed)
        network = recipe.network
        backbone = build_network(network, "later" if init else weights)
        frozen = backbone.frozen_before(network.train_from)
        model = ModelConfig.of_recipe(recipe, data.classes, dict(data.proposals))
        detector = Detector(model, backbone)
        pairs = ((sample.proposals, sample.truth) for sample in trainable(data.samples, recipe))
        statistics = ranks.from_first(lambda: target_statistics(pairs, len(data.classes), recipe))
        if init is not None:
            about = initialise(detector, Detector.load(init, "cpu"), statistics)
            progress.note(f"--init {init}: {about}")
        from_maps = isinstance(data.inputs, CachedMaps)
        if isinstance(data.inputs, CachedMaps):
            data.inputs.check_weights(detector.features_id)
            frozen = len(detector.conv)
        state = RunState(0, model, recipe, frozen, from_maps, recorded, data.digest)
        return cls(folder, data, detector, statistics, state, device, workers, ranks)

    @classmethod
    def resume(
        cls, folder: Path, data: TrainingSet, device: torch.device, workers: int = 0, recipe: Recipe | None = None,
        ranks: Ranks = ALONE,
    ) -> Trainer:  # fmt: skip
        """The run in `folder`, from its last checkpoint.

        Args:
            recipe: that of the run, with a longer schedule; None: that of the run.
            ranks: this process among those that train together, whose number may differ from before.

        Raises:
            FrcnnError: there is no checkpoint, it is damaged, or images or proposals have changed.
        """
        state, tensors = read_state(folder)
        if state.images_digest != data.digest:
            raise MismatchError(
                "the images, annotations, proposals or conv maps have changed since this run began",
                "Start again from scratch with --force",
            )
        if isinstance(data.inputs, CachedMaps) != state.from_maps:
            raise MismatchError(
                "the run was begun with --features and is continued without, or the reverse",
                "Give --features only if the run was begun with it",
            )
        if recipe is not None:
            model = replace(state.model, recipe=recipe.to_dict())
            state = replace(state, recipe=recipe, model=model)
        network = state.model.network
        detector = Detector(state.model, build_network(network))
        trained = {
            name
            for name, _ in detector.named_parameters()
            if not (name.startswith("conv.") and int(name.split(".")[1]) < state.frozen)
        }
        path = folder / STATE_FILE
        restored = restore(tensors, detector, trained if state.iteration else set(), state.recipe, path)
        if isinstance(data.inputs, CachedMaps):
            data.inputs.check_weights(detector.features_id)
        trainer = cls(folder, data, detector, restored.statistics, state, device, workers, ranks)
        for name, parameter in trainer.detector.named_parameters():
            if name in restored.momentum:
                # In the memory order of the parameter, which the fused optimiser requires.
                buffer = torch.empty_like(parameter).copy_(restored.momentum[name])
                trainer.optimiser.state[parameter]["momentum_buffer"] = buffer
        if trainer.average is not None and state.iteration:
            restore_average(trainer.average, restored.average, state.iteration)
        if ranks.is_first:
            trainer.log.truncate_after(state.iteration)
        trainer.log.pending = list(state.unlogged)
        return trainer

    def run(self) -> Iterator[Step]:
        """Trains to the end, and yields after each iteration.

        Raises:
            FrcnnError: the loss is not finite; the last checkpoint is kept.
        """
        self.detector.train()
        before = time.perf_counter()
        for batch in self.batches.iterate(self.state.iteration, self.total, self.workers):
            step = self._train_on(batch, before)
            self.log.pending.append(step)
            if step.iteration % _LOG_EVERY == 0 or step.iteration == self.total:
                self.write_log()
            yield step
            before = time.perf_counter()  # the time of the caller is not training time

    def _train_on(self, batch: Batch, before: float) -> Step:
        """One iteration of SGD. before: when the batch was requested, a time of `time.perf_counter`."""
        iteration, solver = self.state.iteration, self.recipe.solver
        # For layers that draw random numbers of their own, so that a resumed run is bit-identical.
        torch.manual_seed(solver.seed * 1_000_003 + iteration)
        rate = rate_at(iteration % self.stage_length, self.stage_length, solver)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["rate_factor"]
        network = self._network_of_stage()
        batch, count = like_all_ranks(batch, self.ranks)
        labels, targets = batch.labels.to(self.device), batch.targets.to(self.device)
        images = mapped(self._to_device, batch.images)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._half):
            logits, deltas = network(images, batch.rois, from_maps=self.state.from_maps)
        losses = multi_task_loss(logits, deltas, labels, targets, self.recipe.loss, count)
        classification, boxes, foreground, collapsed = self._figures(losses, logits, batch.labels)
        if not math.isfinite(classification + boxes):
            self._diverged(f"the loss is {classification + boxes} at iteration {iteration + 1}")
        self.optimiser.zero_grad(set_to_none=True)
        self.ranks.backward(self._minimised(losses.classification, losses.boxes, len(labels)))
        if solver.clip_norm:
            trained = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
            torch.nn.utils.clip_grad_norm_(trained, solver.clip_norm)
        self.optimiser.step()
        if self.average is not None:
            self.average.update_parameters(self.detector)
        self.state = replace(self.state, iteration=iteration + 1)
        return Step(
            iteration=iteration + 1,
            total=self.total,
            epoch=(iteration + 1) * self.recipe.sampling.images / len(self.batches.samples),
            loss=classification + boxes,
            loss_classification=classification,
            loss_boxes=boxes,
            foreground=foreground,
            background=count - foreground,
            learning_rate=rate,
            seconds=time.perf_counter() - before,
            collapsed=count > 1 and collapsed,
        )

    def _figures(self, losses: Losses, logits: Tensor, labels: Tensor) -> tuple[float, float, int, bool]:
        """Of all ranks: both losses, the number of foreground RoIs, and whether all RoIs have equal logits."""
        own = torch.stack([losses.classification.detach(), losses.boxes.detach()]).double().cpu()
        foreground = (labels > 0).sum()[None].double()
        if len(logits):
            highest, lowest = logits.detach().amax(dim=0).double().cpu(), logits.detach().amin(dim=0).double().cpu()
        else:
            lowest = torch.full((logits.shape[1],), torch.inf, dtype=torch.float64)
            highest = -lowest
        rows = self.ranks.gathered(torch.cat([own, foreground, highest, -lowest]))
        classification, boxes, positive = rows[:, :3].sum(dim=0).tolist()
        highest, lowest = rows[:, 3:].amax(dim=0).view(2, -1)
        return classification, boxes, int(positive), bool((highest + lowest).max() < _EQUAL)

    def _to_device(self, images: Tensor) -> Tensor:
        return images.to(self.device, memory_format=torch.channels_last, non_blocking=True)

    def _network_of_stage(self) -> Callable[..., Any]:
        """The network to call. In the second of two stages, only the box layer is trained."""
        if self.state.iteration >= self.stage_length:
            for name, parameter in self.detector.named_parameters():
                parameter.requires_grad_(name.startswith("head.bbox_pred"))
        if self._network is None or self.state.iteration == self.stage_length:
            self._network = self.ranks.network(self.detector)
        return self._network

    def _minimised(self, classification: Tensor, boxes: Tensor, count: int) -> Tensor:
        """The loss of the current stage, from `count` RoIs of this rank."""
        if count == 0:  # every parameter takes part, so that all ranks have gradients to exchange
            boxes = boxes + sum(0 * p.sum() for p in self.detector.parameters() if p.requires_grad)
        if self.recipe.stages == 1:
            return classification + boxes
        first = self.state.iteration < self.stage_length
        # Times 0, so that the box layer has gradients, and momentum, from the beginning.
        return classification + 0 * boxes if first else boxes

    @property
    def _half(self) -> bool:
        """Whether layers compute in bfloat16, which has the range of float32, so that the loss needs no scaling."""
        return self.recipe.solver.precision == "auto" and self.device.type == "cuda" and torch.cuda.is_bf16_supported()

    def _diverged(self, problem: str) -> None:
        """Raises the error for numbers that are not finite."""
        if self._saved:
            kept = f"the checkpoint of iteration {read_state(self.folder)[0].iteration} is kept in {self.folder}"
        else:
            kept = "there is no checkpoint of this run yet"
        rate = self.recipe.solver.learning_rate
        raise FrcnnError(f"{problem}; {kept}", f"Train with a lower learning rate than --lr {rate:g}")

    def save(self) -> None:
        """Writes the model and the checkpoint. Raises FrcnnError and keeps the last ones if a weight is not finite."""
        for name, value in self.detector.named_parameters():
            if not bool(torch.isfinite(value).all()):
                self._diverged(f"the weights {name} hold NaN or infinity after iteration {self.state.iteration}")
        if not self.ranks.is_first:
            self._saved = True
            return
        self._files.claim(self.state.to_json())
        # If the first checkpoint cannot be written, nothing blocks the folder; and later, a checkpoint never counts
        # iterations that the model lacks.
        if not self._saved:
            self._save_state()
        self.finished().save(self.folder / MODEL_FILE)
        if self._saved:
            self._save_state()
        self._saved = True

    def _save_state(self) -> None:
        average = averaged_weights(self.average, self.trained) if self.average else {}
        tensors = TrainingTensors(self._momentum(), average, self.statistics)
        state = replace(self.state, unlogged=tuple(self.log.pending))
        save_state(self.folder, state, self.detector, tensors)

    def finished(self) -> Detector:
        """The model for detection: averaged if the recipe states so, with boxes that are no longer normalised. Its
        classifier is the softmax, even if the recipe asks for SVMs: `save_with_svms` adds those."""
        made: Detector = copy.deepcopy(self.detector).eval()
        if self.average is not None:
            made.load_state_dict(averaged_weights(self.average, self.trained), strict=False)
        made.head.fold_normalisation(*map(torch.from_numpy, self.statistics))
        made.set_recipe_values(network__classifier="softmax")
        return made

    def needs_svms(self) -> bool:
        """Whether everything is trained except the SVMs of the recipe."""
        if self.recipe.network.classifier == "softmax" or self.state.iteration < self.total:
            return False
        return Detector.load(self.folder, "cpu").config.network.classifier == "softmax"

    def save_with_svms(self, progress: Progress = SILENT) -> None:
        """Fits SVMs that replace the softmax, and saves the model."""
        made = self.finished()
        fit_svms(made, self.batches.samples, read_ref, progress)
        made.set_recipe_values(network__classifier="svm")
        made.save(self.folder / MODEL_FILE)

    def validate(self, validation: Validation, progress: Progress = SILENT) -> float:
        """Evaluates the current model, logs its mAP, and saves it as `best.safetensors` if it is the best so far."""
        made = self.finished()
        found = validation.mean_ap(made, progress, self.ranks)
        if not self.ranks.is_first:
            return found
        self._files.claim(self.state.to_json())
        before = [value for _, value in self.validated()]
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

    def write_log(self) -> None:
        """Writes the iterations that are not in the log yet. Called after every tenth iteration and at the end of a
        run."""
        if not self.ranks.is_first:
            self.log.pending.clear()
        if self.log.pending:
            self._files.claim(self.state.to_json())
            self.log.write_pending(self.recipe.sampling.images)
