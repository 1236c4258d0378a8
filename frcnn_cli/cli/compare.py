"""frcnn compare: which of two detections files is better."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from frcnn_cli.cli.common import arguments, options
from frcnn_cli.cli.common.command import Command
from frcnn_cli.cli.common.console import Console, json_number, three_digits


@click.command(cls=Command)
@click.argument("first", type=options.PATH)
@click.argument("second", type=options.PATH)
@options.data
@options.split
@options.metric
@options.iou
@options.classes
@options.bad_boxes
@options.size_mismatch
@options.as_json
@click.pass_obj
def command(
    console: Console,
    first: Path,
    second: Path,
    data: str,
    split: str | None,
    metric: Any,
    iou: float,
    classes: str | None,
    bad_boxes: str,
    size_mismatch: str,
    as_json: bool,
) -> None:
    """Compare the mAP of FIRST and SECOND by a paired bootstrap.

    Both are evaluated on the same 1,000 samples of images, drawn with replacement. One is reported as better if the
    middle 95% of the differences favour it.

    \b
    frcnn compare paper.h5 modern.h5 --data voc:my-data --split val
    """
    from frcnn_cli.evaluation import bootstrap
    from frcnn_cli.evaluation.voc import evaluate

    results = []
    for path in (first, second):
        paired = arguments.detections(path, data, split, bad_boxes, size_mismatch, classes)
        results.append(evaluate(paired.detections, paired.dataset, iou_threshold=iou, metric=metric))
    drawn = bootstrap.draws(len(paired.dataset))
    maps = [bootstrap.mean_aps(result.matches, metric, drawn, console) for result in results]
    comparison = bootstrap.compare(maps[0], maps[1], results[0].mean_ap - results[1].mean_ap)
    if as_json:
        console.json(
            {
                "map": [json_number(result.mean_ap) for result in results],
                "difference": json_number(comparison.difference),
                "interval": [json_number(end) for end in comparison.interval],
                "first_ahead": json_number(comparison.better),
                "better": comparison.verdict,
            }
        )
        return
    rows = [
        (str(path), three_digits(result.mean_ap), *map(three_digits, bootstrap.interval(values)))
        for path, result, values in zip((first, second), results, maps, strict=True)
    ]
    rows.append(("difference", *(f"{value:+.3f}" for value in (comparison.difference, *comparison.interval))))
    title = f"{paired.dataset.title}, {len(paired.dataset)} images, IoU {iou:g}"
    console.table(("", "mAP", "95% from", "to"), rows, title=title)
    verdict = {"first": f"{first} is better", "second": f"{second} is better"}.get(
        comparison.verdict, "neither is better with 95% confidence"
    )
    console.result(f"{first} is better in {comparison.better:.1%} of the samples: {verdict}")
