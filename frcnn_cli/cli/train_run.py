"""frcnn train while it trains: what is shown, saved and validated, and how it is stopped."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from frcnn_cli.cli.display import Display
from frcnn_cli.errors import FrcnnError

if TYPE_CHECKING:
    from frcnn_cli.training.log import Step
    from frcnn_cli.training.loop import Trainer
    from frcnn_cli.training.validation import Validation

_ALIKE_FOR = 50  # iterations with all scores alike until that is said


def tensorboard_writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise FrcnnError(
            "TensorBoard is not installed",
            "Install it: uv sync --extra tensorboard in a checkout, or pip install tensorboard",
        ) from None
    return SummaryWriter(folder / "tensorboard")


class Watch:
    """What looks at a run from outside: validation, patience, TensorBoard, and a warning of a head that is dead."""

    def __init__(
        self,
        trainer: Trainer,
        display: Display,
        validation: Validation | None,
        validate_every: float,
        patience: int | None,
        writer: Any,
    ) -> None:
        self.trainer, self.display, self.validation = trainer, display, validation
        self.every = _iterations(trainer, validate_every)
        self.patience, self.writer = patience, writer
        self.alike = 0

    def look(self, step: Step) -> bool:
        """After every iteration; whether training is to end here."""
        self.alike = self.alike + 1 if step.all_alike else 0
        if self.alike == _ALIKE_FOR:
            self.display.warn(
                f"every RoI has had the same scores for {_ALIKE_FOR} iterations: the hidden units are dead; begin anew"
                f" with a lower --lr than {self.trainer.recipe.solver.learning_rate:g}"
            )
        if self.writer is not None and (step.iteration % 10 == 0 or step.iteration == step.total):
            for name in ("loss", "loss_classification", "loss_boxes", "learning_rate"):
                self.writer.add_scalar(name, getattr(step, name), step.iteration)
        if self.validation is None or not (step.iteration % self.every == 0 or step.iteration == step.total):
            return False
        with self.display.progress("validate", len(self.validation.images)) as bar:
            found = self.trainer.validate(self.validation, bar.advance)
        values = [value for _, value in self.trainer.validated()]
        self.display.note(f"epoch {step.epoch:.2f}: validation mAP {found:.3f}, best {max(values, default=found):.3f}")
        if self.writer is not None:
            self.writer.add_scalar("validation_map", found, step.iteration)
        best = values.index(max(values)) if values else 0
        if self.patience is not None and len(values) - 1 - best >= self.patience:
            self.display.note(f"nothing better in {self.patience} validation(s): training ends here")
            return True
        return False

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


def _iterations(trainer: Trainer, epochs: float) -> int:
    return max(1, round(epochs * len(trainer.batches.images) / trainer.recipe.sampling.images))


def run(trainer: Trainer, display: Display, checkpoint_every: float, watch: Watch) -> float | None:
    """Trains; returns the loss at the end (a running mean), None if it was stopped before. Saves now and then, at the
    end, and when stopped."""
    every = _iterations(trainer, checkpoint_every)
    left = trainer.total - trainer.state.iteration
    loss = 0.0
    with _stop_on_signal(trainer.folder) as stopped, display.progress("train", left, "it") as bar:
        rate = 0.0
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
            ended = watch.look(step) and not stopped
            if stopped or ended or step.iteration % every == 0 or step.iteration == step.total:
                trainer.save()
            if ended:
                break
            if stopped and step.iteration < step.total:
                return None
    watch.close()
    return loss


def fit_svms(trainer: Trainer, display: Display) -> None:
    """Puts SVMs in place of the softmax, when all else is trained.

    Raises:
        StoppedAtOnce: Ctrl-C; all else stays trained.
    """
    from frcnn_cli.data.decode import read_ref

    try:
        with display.progress("SVMs", 2 * len(trainer.batches.images)) as bar:
            trainer.save_with_svms(read_ref, bar.advance)
    except KeyboardInterrupt:
        fix = f"Fit them: frcnn train --resume -o {trainer.folder}"
        raise StoppedAtOnce("all is trained but the SVMs: the model has its softmax yet", fix) from None


class StoppedAtOnce(FrcnnError):
    """Ctrl-C where nothing is left to be saved."""

    exit_code = 130


@contextmanager
def _stop_on_signal(folder: Path) -> Iterator[list[int]]:
    """A list that fills when Ctrl-C (or a polite kill) asks to stop; a second Ctrl-C stops at once."""
    asked: list[int] = []

    def remember(number: int, frame: Any) -> None:
        if asked:
            saved = (folder / "state.safetensors").exists()
            fix = (
                f"Go on from the last checkpoint: frcnn train --resume -o {folder}"
                if saved
                else "Nothing was saved yet"
            )
            raise StoppedAtOnce("stopped at once", fix)
        asked.append(number)
        click.echo("stopping after this iteration, then saving; Ctrl-C again stops at once", err=True)

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
