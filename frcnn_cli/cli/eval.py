"""frcnn eval: dets.h5 + ground truth -> average precision."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from frcnn_cli.cli import options
from frcnn_cli.cli.command import Command
from frcnn_cli.cli.display import Display


@click.command(cls=Command)
@click.argument("dets", type=options.PATH)
@options.data
@click.option("--split", default="test", show_default=True, metavar="NAME", help="Split of the data set.")
@click.option(
    "--metric",
    type=click.Choice(["area", "voc07"]),
    default="area",
    show_default=True,
    help="Area under the precision-recall curve, or VOC 2007's mean over 11 points.",
)
@click.option(
    "--iou", default=0.5, show_default=True, type=options.Number(0, 1), help="Least overlap of a correct detection."
)
@options.classes
@options.bad_boxes
@options.as_json
@click.pass_obj
def command(
    display: Display,
    dets: Path,
    data: str,
    split: str,
    metric: Any,
    iou: float,
    classes: str | None,
    bad_boxes: str,
    as_json: bool,
) -> None:
    """Average precision of DETS, as PASCAL VOC counts it.

    \b
    frcnn eval dets.h5 --data voc:VOCdevkit/VOC2007 --split test
    frcnn eval dets.h5 --data voc:VOCdevkit/VOC2007 --split test --metric voc07 --json
    """
    from frcnn_cli.detections.columns import from_columns
    from frcnn_cli.evaluation.voc import evaluate
    from frcnn_cli.store.reader import StageFile
    from frcnn_cli.store.schema import DETECTIONS

    with StageFile(dets, DETECTIONS) as file:
        names = file.classes
        truth, rows = options.resolve_truth(data, split, bad_boxes, classes, names, file)
        keys = [sample.ref.key for sample in truth.samples]
        found = {key: from_columns(file[row]) for key, row in zip(keys, rows, strict=True)}
    wanted = {sample.ref.key: sample.truth for sample in truth.samples}
    result = evaluate(found, wanted, names, iou, metric)
    if as_json:
        display.json(
            {
                "map": _number(result.mean_ap),
                "metric": metric,
                "iou": iou,
                "images": len(wanted),
                "classes": {
                    c.name: {
                        "ap": _number(c.ap),
                        "objects": c.objects,
                        "detections": c.detections,
                        "recall": _number(c.recall),
                    }
                    for c in result.classes
                },
            }
        )
        return
    columns = [(c.name, c.ap, c.recall, str(c.objects), str(c.detections)) for c in result.classes]
    rows_shown = [(name, _share(ap), _share(recall), *counts) for name, ap, recall, *counts in columns]
    objects, detections = (sum(getattr(c, name) for c in result.classes) for name in ("objects", "detections"))
    rows_shown.append(("mean", _share(result.mean_ap), "", str(objects), str(detections)))
    rule = "area under the curve" if metric == "area" else "VOC 2007, 11 points"
    display.table(
        ("class", "AP", "recall", "objects", "detections"),
        rows_shown,
        title=f"{data} {split}, {len(wanted)} images, IoU {iou:g}, {rule}",
    )


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
