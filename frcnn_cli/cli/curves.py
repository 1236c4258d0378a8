"""frcnn curves: runs' logs -> a page with their curves."""

from __future__ import annotations

import html
import io
from pathlib import Path
from typing import Any

import click

from frcnn_cli.cli import options
from frcnn_cli.cli.command import Command
from frcnn_cli.cli.display import Display

_PANELS = (
    ("loss", "loss"),
    ("loss_classification", "classification loss"),
    ("loss_boxes", "box loss"),
    ("validation_map", "validation mAP"),
    ("learning_rate", "learning rate"),
    ("images_per_second", "images a second"),
)


@click.command(cls=Command)
@click.argument("runs", nargs=-1, required=True, type=options.PATH, metavar="RUN...")
@click.option(
    "-o",
    "--output",
    type=options.PATH,
    metavar="FILE",
    help="Page to write, .html. Default: curves.html in the first RUN.",
)
@options.force
@click.pass_obj
def command(display: Display, runs: tuple[Path, ...], output: Path | None, force: bool) -> None:
    """Draw the curves of one or more runs into one page that needs nothing else.

    Losses, validation mAP, learning rate and speed against epochs, and the recipe of each run.

    \b
    frcnn curves runs/my
    frcnn curves runs/paper runs/modern -o both.html --force
    """
    from frcnn_cli.errors import FrcnnError, OutputExistsError
    from frcnn_cli.files import write_whole

    if output is None:
        output = (runs[0] if runs[0].is_dir() else runs[0].parent) / "curves.html"
    if output.suffix.lower() != ".html":
        raise click.UsageError(f"-o {output}: the page is an .html file.")
    if output.exists() and not force:
        raise OutputExistsError(output)
    logs = {}
    for run in runs:
        logs[str(run)] = _log(run)
        if not logs[str(run)]:
            raise FrcnnError(f"{run} holds no log of a run", "Name a folder that frcnn train wrote")
    recipes = {str(run): _recipe(run) for run in runs}
    parts = [
        "<!doctype html><meta charset=utf-8><title>frcnn curves</title>",
        "<style>body{font:15px sans-serif;margin:2em auto;max-width:75em}svg{width:100%;height:auto}"
        "pre{background:#f4f4f4;padding:1em;overflow:auto}</style>",
        f"<h1>{html.escape(', '.join(logs))}</h1>",
        _drawn(logs),
    ]
    for name, text in recipes.items():
        parts.append(f"<h2>Recipe of {html.escape(name)}</h2><pre>{html.escape(text)}</pre>")
    write_whole(output, "\n".join(parts).encode())
    display.note(f"{output}: {len(logs)} run(s)")


def _log(run: Path) -> list[dict[str, Any]]:
    from frcnn_cli.training.log import LOG_FILE, read_log

    lines = read_log(run / LOG_FILE if run.is_dir() else run)
    epochs = {line["iteration"]: line["epoch"] for line in lines if "epoch" in line}
    per = next((epoch / iteration for iteration, epoch in epochs.items() if iteration), 0.0)
    return [{"epoch": line["iteration"] * per, **line} for line in lines]


def _recipe(run: Path) -> str:
    import json

    from frcnn_cli.errors import UsageError
    from frcnn_cli.recipes.recipe import Recipe

    path = (run if run.is_dir() else run.parent) / "config.json"
    try:
        return Recipe.from_dict(json.loads(path.read_text())["recipe"]).to_toml()
    except (OSError, ValueError, KeyError, TypeError, RecursionError, UsageError):
        return "not recorded, or by another version of frcnn"


def _drawn(logs: dict[str, list[dict[str, Any]]]) -> str:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    panels = [(name, title) for name, title in _PANELS if any(name in line for log in logs.values() for line in log)]
    figure = Figure(figsize=(11, 3 * ((len(panels) + 1) // 2)), layout="constrained")
    FigureCanvasSVG(figure)
    for i, (name, title) in enumerate(panels, 1):
        axes = figure.add_subplot((len(panels) + 1) // 2, 2, i)
        for run, log in logs.items():
            points = [(line["epoch"], line[name]) for line in log if name in line]
            mark = "o-" if name == "validation_map" else "-"
            axes.plot(*zip(*points, strict=True), mark, label=" " + run.replace("$", r"\$")) if points else None
        axes.set(title=title, xlabel="epoch", xlim=(0, None))
        axes.grid(alpha=0.3)
    if len(logs) > 1:
        figure.axes[0].legend(fontsize="small")
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg")
    text = drawn.getvalue()
    return text[text.index("<svg") :]
