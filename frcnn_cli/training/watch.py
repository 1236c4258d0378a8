"""What happens beside training: validation, early stopping, TensorBoard, and a warning if the head has collapsed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from frcnn_cli.core.errors import FrcnnError
from frcnn_cli.core.progress import SILENT, Progress
from frcnn_cli.training.log import Step
from frcnn_cli.training.trainer import Trainer
from frcnn_cli.training.validation import Validation

COLLAPSED_FOR = 50  # iterations with equal scores for all RoIs until a warning


class Watch:
    """Called after every iteration."""

    def __init__(
        self, trainer: Trainer, validation: Validation | None = None, validate_every: float = 1.0,
        patience: int | None = None, writer: Any = None, progress: Progress = SILENT,
    ) -> None:  # fmt: skip
        """
        Args:
            validate_every: epochs between validations.
            patience: stop after this many validations without improvement.
            writer: a TensorBoard writer; see `tensorboard_writer`.
        """
        self.trainer, self.validation, self.progress = trainer, validation, progress
        self.every = iterations_of(trainer, validate_every)
        self.patience, self.writer = patience, writer
        self.collapsed = 0

    def after(self, step: Step) -> bool:
        """Does what is due after an iteration, and returns whether training should stop early."""
        self._check_collapse(step)
        if self.writer is not None and (step.iteration % 10 == 0 or step.iteration == step.total):
            for name in ("loss", "loss_classification", "loss_boxes", "learning_rate"):
                self.writer.add_scalar(name, getattr(step, name), step.iteration)
        if self.validation is None or not (step.iteration % self.every == 0 or step.iteration == step.total):
            return False
        found = self.trainer.validate(self.validation, self.progress)
        values = [value for _, value in self.trainer.ranks.from_first(self.trainer.validated)]
        best = max(values, default=found)
        self.progress.note(f"epoch {step.epoch:.2f}: validation mAP {found:.3f}, best {best:.3f}")
        if self.writer is not None:
            self.writer.add_scalar("validation_map", found, step.iteration)
        since_best = len(values) - 1 - values.index(max(values)) if values else 0
        if self.patience is not None and since_best >= self.patience:
            self.progress.note(f"no improvement in {self.patience} validation(s): training stops")
            return True
        return False

    def _check_collapse(self, step: Step) -> None:
        self.collapsed = self.collapsed + 1 if step.collapsed else 0
        if self.collapsed == COLLAPSED_FOR:
            rate = self.trainer.recipe.solver.learning_rate
            self.progress.warn(
                f"every RoI has had the same scores for {COLLAPSED_FOR} iterations: the head has collapsed (dead"
                f" units); start again with a lower --lr than {rate:g}"
            )


def iterations_of(trainer: Trainer, epochs: float) -> int:
    """The number of iterations in this number of epochs, at least 1."""
    return max(1, round(epochs * len(trainer.batches.samples) / trainer.recipe.sampling.images))


def check_tensorboard() -> None:
    """Raises FrcnnError if TensorBoard is not installed."""
    if find_spec("tensorboard") is None:
        raise FrcnnError(
            "TensorBoard is not installed",
            "Install it: uv sync --extra tensorboard in a checkout, or pip install tensorboard",
        )


def tensorboard_writer(folder: Path) -> Any:
    """A writer of TensorBoard event files in `folder`/tensorboard, which is also a context that closes it."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(folder / "tensorboard")
