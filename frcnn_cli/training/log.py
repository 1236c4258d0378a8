"""The log of a run: one line of JSON per ten iterations and per validation. Reading it does not need torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from frcnn_cli.core.errors import FileFormatError, explain_os_error
from frcnn_cli.core.files import write_atomic

MAX_BYTES = 1 << 30


@dataclass(frozen=True)
class Step:
    """The figures of one iteration.

    iteration: from 1 to `total`. foreground, background: numbers of sampled RoIs. seconds: duration of the iteration.
    collapsed: whether every RoI got the same scores, as if all hidden units were dead.
    """

    iteration: int
    total: int
    epoch: float
    loss: float
    loss_classification: float
    loss_boxes: float
    foreground: int
    background: int
    learning_rate: float
    seconds: float
    collapsed: bool = False

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Raises TypeError or ValueError if a value is missing or impossible."""
        step = cls(**values)
        for value in values.values():
            if not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ValueError(f"{value!r} is not a number")
        if step.seconds <= 0:
            raise ValueError(f"an iteration of {step.seconds} s")
        return step


class RunLog:
    """The log of a run in training. pending: iterations that are not in the file yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pending: list[Step] = []

    def write_pending(self, images_per_batch: int) -> None:
        """Writes one line with the means of the pending iterations."""
        steps, self.pending = self.pending, []
        self.write(_averaged(steps, images_per_batch))

    def write(self, line: Mapping[str, float]) -> None:
        try:
            with open(self.path, "a") as log:
                log.write(json.dumps(line) + "\n")
        except OSError as error:
            raise explain_os_error(error, self.path) from None

    def truncate_after(self, iteration: int) -> None:
        """Removes the lines of later iterations, which will be repeated."""
        kept = [json.dumps(line) for line in read_log(self.path) if line["iteration"] <= iteration]
        if self.path.is_file():
            write_atomic(self.path, "".join(f"{line}\n" for line in kept).encode())


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of the log of a run, without an incomplete last line.

    Raises:
        FileFormatError: not a log of frcnn train.
    """
    if not path.is_file():
        return []
    if path.stat().st_size > MAX_BYTES:
        raise FileFormatError(f"{path} is larger than 1 GB", "Name the folder of a run")
    whole = [line for line in path.read_text("utf-8", "replace").splitlines(keepends=True) if line.endswith("}\n")]
    try:
        lines = [json.loads(line) for line in whole]
        for line in lines:
            if not isinstance(line["iteration"], int):
                raise ValueError("no iteration")
            for name, value in line.items():
                if isinstance(value, bool) or not isinstance(value, (int, float)):
                    raise ValueError(f"{name} is not a number")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        fix = "Name the folder of a run, or remove the file from it"
        raise FileFormatError(f"{path} is not a log of frcnn train ({error})", fix) from None
    return lines


def _averaged(steps: Sequence[Step], images_per_batch: int) -> dict[str, float]:
    last = steps[-1]
    means = {
        name: sum(getattr(step, name) for step in steps) / len(steps)
        for name in ("loss", "loss_classification", "loss_boxes", "foreground", "background", "seconds")
    }
    seconds = means.pop("seconds")
    return {
        "iteration": last.iteration,
        "total": last.total,
        "epoch": round(last.epoch, 4),
        **{name: round(value, 5) for name, value in means.items()},
        "learning_rate": last.learning_rate,
        "images_per_second": round(images_per_batch / seconds, 3),
        "eta_seconds": round((last.total - last.iteration) * seconds),
    }
