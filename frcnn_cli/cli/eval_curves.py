"""frcnn eval --curves: precision against recall, as a table or a picture."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

import click

from frcnn_cli.cli import resolve

if TYPE_CHECKING:
    from frcnn_cli.evaluation.voc import Result

_PICTURES = (".png", ".svg", ".pdf")


def may_write(path: Path, force: bool, *inputs: Path) -> None:
    """Raises where the file has another ending, is an input, or exists."""
    from frcnn_cli.errors import OutputExistsError

    if path.suffix.lower() not in (".csv", *_PICTURES):
        raise click.UsageError(f"--curves {path}: it ends in none of .csv {' '.join(_PICTURES)}.")
    resolve.must_differ(path, *inputs)
    if path.exists() and not force:
        raise OutputExistsError(path)


def write_curves(path: Path, result: Result, title: str) -> None:
    """Raises FrcnnError where the file cannot be written."""
    from frcnn_cli.files import write_whole

    write_whole(path, _table(result) if path.suffix.lower() == ".csv" else _picture(result, title, path.suffix))


def _table(result: Result) -> bytes:
    """A line for every detection that counts: class, score, recall, precision."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["class", "score", "recall", "precision"])
    for c in result.classes:
        rows = zip(c.curve.scores.tolist(), c.curve.recall.tolist(), c.curve.precision.tolist(), strict=True)
        lines.writerows(
            [c.name, f"{score:.6f}", f"{recall:.6f}", f"{precision:.6f}"] for score, recall, precision in rows
        )
    return text.getvalue().encode()


def _picture(result: Result, title: str, ending: str) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for i, c in enumerate(c for c in result.classes if c.objects):
        name = " " + c.name.replace("$", r"\$")  # not a formula; and what begins with _ would be left out
        style = "-" if i < 10 else "--"
        axes.plot([0, *c.curve.recall], [1, *c.curve.precision], f"C{i % 10}{style}", label=f"{name} {c.ap:.3f}")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", title=f"AP, IoU {result.iou_threshold:g}", loc="lower left")
    figure.suptitle(f"{title}: mAP {result.mean_ap:.3f}".replace("$", r"\$"))
    drawn = io.BytesIO()
    figure.savefig(drawn, format=ending.lower()[1:], dpi=140)
    return drawn.getvalue()
