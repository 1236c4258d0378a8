"""The picture of frcnn recall: recall against the number of boxes, and against IoU."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from frcnn_cli.files import write_whole
from frcnn_cli.proposals.recall import Coverage


def draw_recall(found: Mapping[str, Coverage], path: Path, title: str) -> None:
    """Draws the coverage of each file, by name, into a picture whose ending decides the format.

    Raises:
        FrcnnError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    by_count, by_iou = figure.subplots(1, 2, sharey=True)
    ious = np.linspace(0.5, 1, 51)
    for i, (file, coverage) in enumerate(found.items()):
        name = " " + file.replace("$", r"\$")  # not a formula; and what begins with _ would be left out
        lines = coverage.figures()
        counts = [line.count for line in lines]
        by_count.plot(counts, [line.recall_50 for line in lines], f"C{i}o-", label=f"{name}, IoU 0.5")
        by_count.plot(counts, [line.recall_70 for line in lines], f"C{i}o--", label=f"{name}, IoU 0.7")
        last = lines[-1]
        label = f"{name}, AR {last.average_recall:.3f}"
        by_iou.plot(ious, coverage.at_iou(ious)[-1], f"C{i}-", label=label)
    by_count.set(xscale="log", xlabel="boxes an image", ylabel="recall", ylim=(0, 1.02))
    by_iou.set(xlabel=f"IoU, {lines[-1].count} boxes an image", xlim=(0.5, 1))
    for axes in (by_count, by_iou):
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    by_count.set_xticks(counts, [str(count) for count in counts], minor=False)
    by_count.minorticks_off()
    figure.suptitle(title.replace("$", r"\$"))
    drawn = io.BytesIO()
    figure.savefig(drawn, format=path.suffix.lower()[1:], dpi=140)
    write_whole(path, drawn.getvalue())
