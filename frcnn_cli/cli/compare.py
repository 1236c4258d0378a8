"""frcnn compare: two files of detections on the same images -> which is better."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from frcnn_cli.cli import options, resolve
from frcnn_cli.cli.command import Command
from frcnn_cli.cli.display import Display, number, share


@click.command(cls=Command)
@click.argument("first", type=options.PATH)
@click.argument("second", type=options.PATH)
@options.data
@click.option("--split", default="test", show_default=True, metavar="NAME", help="Split of the data set.")
@options.metric
@click.option(
    "--iou", default=0.5, show_default=True, type=options.Number(0, 1), help="Least overlap of a correct detection."
)
@options.classes
@options.bad_boxes
@options.as_json
@click.pass_obj
def command(
    display: Display,
    first: Path,
    second: Path,
    data: str,
    split: str,
    metric: Any,
    iou: float,
    classes: str | None,
    bad_boxes: str,
    as_json: bool,
) -> None:
    """Whether FIRST or SECOND detects better, or nothing can be said.

    Both are evaluated on the same images, drawn with replacement a thousand times (a paired bootstrap). One is better
    where it is ahead in the middle 95% of the draws.

    \b
    frcnn compare paper.h5 modern.h5 --data voc:my-data --split val
    """
    from frcnn_cli.data.spec import named
    from frcnn_cli.evaluation import bootstrap
    from frcnn_cli.evaluation.voc import evaluate

    results = []
    for path in (first, second):
        dataset, found, _ = resolve.detections(path, data, split, bad_boxes, classes)
        wanted = {sample.ref.key: sample.truth for sample in dataset.samples}
        results.append(evaluate(found, wanted, dataset.classes, iou, metric))
    drawn = bootstrap.draws(len(wanted))
    with display.progress("bootstrap", 2 * len(drawn), "draws") as bar:
        maps = [bootstrap.mean_aps(result.matches, metric, drawn, bar.advance) for result in results]
    apart = bootstrap.compare(maps[0], maps[1], results[0].mean_ap - results[1].mean_ap)
    verdict = {"first": f"{first} is better", "second": f"{second} is better"}.get(
        apart.verdict, "neither is shown to be better on these images"
    )
    if as_json:
        display.json(
            {
                "map": [number(result.mean_ap) for result in results],
                "difference": number(apart.difference),
                "interval": [number(end) for end in apart.interval],
                "first_ahead": number(apart.better),
                "better": apart.verdict,
            }
        )
        return
    rows = [
        (str(path), share(result.mean_ap), *map(share, bootstrap.interval(values)))
        for path, result, values in zip((first, second), results, maps, strict=True)
    ]
    rows.append(("difference", *(f"{value:+.3f}" for value in (apart.difference, *apart.interval))))
    display.table(("", "mAP", "95% from", "to"), rows, title=f"{named(data, split)}, {len(wanted)} images, IoU {iou:g}")
    display.result(f"{first} is ahead in {apart.better:.1%} of the draws: {verdict}")
