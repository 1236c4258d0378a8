"""frcnn compare: which of several detections files is best."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from frcnn_cli.cli.common import arguments, options
from frcnn_cli.cli.common.command import Command
from frcnn_cli.cli.common.console import Console, json_number, three_digits
from frcnn_cli.core.errors import UsageError

if TYPE_CHECKING:
    from frcnn_cli.evaluation.voc import Result


@click.command(cls=Command)
@click.argument("files", nargs=-1, required=True, type=options.PATH, metavar="DETS DETS...")
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
    files: tuple[Path, ...],
    data: str,
    split: str | None,
    metric: Any,
    iou: float,
    classes: str | None,
    bad_boxes: str,
    size_mismatch: str,
    as_json: bool,
) -> None:
    """Compare the mAP of two or more files of detections by a paired bootstrap.

    All are evaluated on the same samples of images, drawn with replacement. One is reported as better than another if p
    is at most 5%; p is the probability of a difference this large if neither is better. With more than two files, p is
    corrected for the number of comparisons (Holm, 1979).

    \b
    frcnn compare paper.h5 modern.h5 --data voc:my-data --split val
    frcnn compare a.h5 b.h5 c.h5 --data voc:my-data --json
    """
    if len(files) < 2:
        raise click.UsageError("Name at least two files.")
    if len(set(files)) < len(files) and len(files) > 2:
        raise click.UsageError("A file is named twice.")
    from frcnn_cli.evaluation import bootstrap
    from frcnn_cli.evaluation.voc import evaluate

    results: list[Result] = []
    for path in files:
        paired = arguments.detections(path, data, split, bad_boxes, size_mismatch, classes)
        if results and paired.dataset.truth.keys() != set(results[0].matches.keys):
            raise UsageError(f"{files[0]} and {path} are detections of different images", "Name the split with --split")
        results.append(evaluate(paired.detections, paired.dataset, iou_threshold=iou, metric=metric))
    count = bootstrap.draws_for(len(files))
    maps = bootstrap.mean_aps_of_all([result.matches for result in results], metric, count, console)
    compared = bootstrap.compare_all(maps, [result.mean_ap for result in results])
    if as_json:
        every = [
            {
                "first": str(files[i]),
                "second": str(files[j]),
                "difference": json_number(one.difference),
                "interval": [json_number(end) for end in one.interval],
                "first_ahead": json_number(one.better),
                "p": json_number(one.p),
                "better": one.verdict,
            }
            for (i, j), one in compared.items()
        ]
        about = {"files": list(map(str, files)), "map": [json_number(result.mean_ap) for result in results]}
        console.json(about | ({"comparisons": every} if len(files) > 2 else every[0]))
        return
    title = f"{paired.dataset.title}, {len(paired.dataset)} images, IoU {iou:g}"
    rows = [
        (str(path), three_digits(result.mean_ap), *map(three_digits, bootstrap.interval(values)))
        for path, result, values in zip(files, results, maps, strict=True)
    ]
    console.table(("", "mAP", "95% from", "to"), rows, title=title)
    names = {"first": "the first", "second": "the second", "neither": "neither"}
    rows = [
        (
            f"{files[i]} - {files[j]}",
            *(f"{value:+.3f}" for value in (one.difference, *one.interval)),
            f"{one.better:.1%}",
            f"{one.p:.3f}",
            names[one.verdict],
        )
        for (i, j), one in compared.items()
    ]
    corrected = f", p corrected for {len(rows)} comparisons" if len(rows) > 1 else ""
    heads = ("difference", "mAP", "95% from", "to", "first ahead", "p", "better")
    console.table(heads, rows, title=f"{count:,} samples of the images{corrected}")
