"""The recall of proposals against the number of boxes, and against IoU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from frcnn_cli.core.files import write_atomic
from frcnn_cli.proposals.recall import Coverage
from frcnn_cli.report.figures import encoded, label, new_figure, plain


def plot_recall(found: Mapping[str, Coverage], path: Path, title: str) -> None:
    """Plots the coverage of each file, by name, as .png, .svg or .pdf.

    Raises:
        FrcnnError: the system refuses to write.
    """
    figure = new_figure(10, 4.2)
    by_count, by_iou = figure.subplots(1, 2, sharey=True)
    ious = np.linspace(0.5, 1, 51)
    for i, (file, coverage) in enumerate(found.items()):
        name = label(file)
        lines = coverage.figures()
        counts = [line.count for line in lines]
        by_count.plot(counts, [line.recall_50 for line in lines], f"C{i}o-", label=f"{name}, IoU 0.5")
        by_count.plot(counts, [line.recall_70 for line in lines], f"C{i}o--", label=f"{name}, IoU 0.7")
        by_iou.plot(ious, coverage.at_iou(ious)[-1], f"C{i}-", label=f"{name}, AR {lines[-1].average_recall:.3f}")
    by_count.set(xscale="log", xlabel="boxes per image", ylabel="recall", ylim=(0, 1.02))
    by_iou.set(xlabel=f"IoU, {lines[-1].count} boxes per image", xlim=(0.5, 1))
    for axes in (by_count, by_iou):
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    by_count.set_xticks(counts, [str(count) for count in counts], minor=False)
    by_count.minorticks_off()
    figure.suptitle(plain(title))
    write_atomic(path, encoded(figure, path.suffix))
