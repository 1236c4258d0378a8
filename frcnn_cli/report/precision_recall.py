"""Precision-recall curves, as a table or a plot."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from frcnn_cli.core.files import write_atomic
from frcnn_cli.evaluation.voc import Result
from frcnn_cli.report.figures import encoded, label, new_figure, plain


def write_curves(path: Path, result: Result, title: str) -> None:
    """Writes the curve of each class: a .csv, or a plot as .png, .svg or .pdf.

    Raises:
        FrcnnError: the system refuses to write.
    """
    write_atomic(path, _table(result) if path.suffix.lower() == ".csv" else _plot(result, title, path.suffix))


def _table(result: Result) -> bytes:
    """One line per detection that counts: class, score, recall, precision."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["class", "score", "recall", "precision"])
    for c in result.classes:
        rows = zip(c.curve.scores.tolist(), c.curve.recall.tolist(), c.curve.precision.tolist(), strict=True)
        lines.writerows(
            [c.name, f"{score:.6f}", f"{recall:.6f}", f"{precision:.6f}"] for score, recall, precision in rows
        )
    return text.getvalue().encode()


def _plot(result: Result, title: str, ending: str) -> bytes:
    figure = new_figure(6.4, 5)
    axes = figure.subplots()
    for i, c in enumerate(c for c in result.classes if c.objects):
        style = "-" if i < 10 else "--"
        axes.plot(
            [0, *c.curve.recall], [1, *c.curve.precision], f"C{i % 10}{style}", label=f"{label(c.name)} {c.ap:.3f}"
        )
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", title=f"AP, IoU {result.iou_threshold:g}", loc="lower left")
    figure.suptitle(plain(f"{title}: mAP {result.mean_ap:.3f}"))
    return encoded(figure, ending)
