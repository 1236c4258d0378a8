"""A run's log: JSON, a line for every ten iterations and for every validation. Read without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frcnn_cli.errors import FileFormatError, explain_os_error
from frcnn_cli.files import write_whole

LOG_FILE = "log.jsonl"
MAX_BYTES = 1 << 30


@dataclass(frozen=True)
class Step:
    """One iteration's figures: losses, sampled RoIs by kind, learning rate, seconds since the one before; and whether
    every RoI got the same scores, as from hidden units that are all dead."""

    iteration: int  # 1 for the first
    total: int
    epoch: float
    loss: float
    loss_classification: float
    loss_boxes: float
    foreground: int
    background: int
    learning_rate: float
    seconds: float
    all_alike: bool = False


class RunLog:
    """The log of a run in training. pending: iterations that no line tells of yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pending: list[Step] = []

    def write_pending(self, images_per_batch: int) -> None:
        """A line of the means of the iterations since the last."""
        steps, self.pending = self.pending, []
        self.write(_averaged(steps, images_per_batch))

    def write(self, line: Mapping[str, float]) -> None:
        try:
            with open(self.path, "a") as log:
                log.write(json.dumps(line) + "\n")
        except OSError as error:
            raise explain_os_error(error, self.path) from None

    def cut_after(self, iteration: int) -> None:
        """Takes out the lines of later iterations: they will be done again."""
        kept = [json.dumps(line) for line in read_log(self.path) if line["iteration"] <= iteration]
        if self.path.is_file():
            write_whole(self.path, "".join(f"{line}\n" for line in kept).encode())


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a run's log; the last one may be torn off.

    Raises:
        FileFormatError: not a log of ours.
    """
    if not path.is_file():
        return []
    if path.stat().st_size > MAX_BYTES:
        raise FileFormatError(f"{path} is larger than 1 GB", "Name a run's folder")
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
        fix = "Name a run's folder, or take the file out of it"
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
