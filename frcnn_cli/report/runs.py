"""The logs of training runs as one page with their curves and recipes."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from frcnn_cli.core.errors import FrcnnError, UsageError
from frcnn_cli.core.files import write_atomic
from frcnn_cli.core.run_files import CONFIG_FILE, LOG_FILE
from frcnn_cli.recipes.recipe import Recipe
from frcnn_cli.report.figures import encoded, label, new_figure
from frcnn_cli.training.log import read_log

_PANELS = (
    ("loss", "loss"),
    ("loss_classification", "classification loss"),
    ("loss_boxes", "box loss"),
    ("validation_map", "validation mAP"),
    ("learning_rate", "learning rate"),
    ("images_per_second", "images per second"),
)
_STYLE = (
    "<style>body{font:15px sans-serif;margin:2em auto;max-width:75em}svg{width:100%;height:auto}"
    "pre{background:#f4f4f4;padding:1em;overflow:auto}</style>"
)

Log = list[dict[str, Any]]


def write_runs_page(runs: Sequence[Path], output: Path) -> None:
    """Writes a self-contained page with the curves and recipes of runs.

    Args:
        runs: folders of runs, or their logs.

    Raises:
        FrcnnError: a run has no log, or the system refuses to write.
    """
    logs = {str(run): _read_log(run) for run in runs}
    for name, log in logs.items():
        if not log:
            fix = "Name a folder that frcnn train wrote; a run has a log after its first ten iterations"
            raise FrcnnError(f"{name} holds no log of a run", fix)
    parts = [
        "<!doctype html><meta charset=utf-8><title>frcnn curves</title>",
        _STYLE,
        f"<h1>{html.escape(', '.join(logs))}</h1>",
        _curves(logs),
    ]
    for run in runs:
        text = html.escape(_recipe(run))
        parts.append(f"<h2>Recipe of {html.escape(str(run))}</h2><pre>{text}</pre>")
    write_atomic(output, "\n".join(parts).encode())


def _read_log(run: Path) -> Log:
    lines = read_log(run / LOG_FILE if run.is_dir() else run)
    epochs = {line["iteration"]: line["epoch"] for line in lines if "epoch" in line}
    per_iteration = next((epoch / iteration for iteration, epoch in epochs.items() if iteration), 0.0)
    return [{"epoch": line["iteration"] * per_iteration, **line} for line in lines]


def _recipe(run: Path) -> str:
    path = (run if run.is_dir() else run.parent) / CONFIG_FILE
    try:
        return Recipe.recorded(json.loads(path.read_text())["recipe"]).to_toml()
    except (OSError, ValueError, KeyError, TypeError, RecursionError, UsageError):
        return "not recorded, or by another version of frcnn"


def _curves(logs: Mapping[str, Log]) -> str:
    panels = [(name, title) for name, title in _PANELS if any(name in line for log in logs.values() for line in log)]
    rows = (len(panels) + 1) // 2
    figure = new_figure(11, 3 * rows)
    for i, (name, title) in enumerate(panels, 1):
        axes = figure.add_subplot(rows, 2, i)
        for run, log in logs.items():
            points = [(line["epoch"], line[name]) for line in log if name in line]
            if points:
                axes.plot(*zip(*points, strict=True), "o-" if name == "validation_map" else "-", label=label(run))
        axes.set(title=title, xlabel="epoch", xlim=(0, None))
        axes.grid(alpha=0.3)
    if len(logs) > 1:
        figure.axes[0].legend(fontsize="small")
    text = encoded(figure, ".svg").decode()
    return text[text.index("<svg") :]
