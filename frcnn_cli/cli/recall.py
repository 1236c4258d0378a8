"""frcnn recall: what proposals are worth."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from frcnn_cli.cli import options
from frcnn_cli.cli.command import Command
from frcnn_cli.cli.display import Display


@click.command(cls=Command)
@click.argument("props", type=options.PATH)
@options.data
@click.option("--split", default="test", show_default=True, metavar="NAME", help="Split of the data set.")
@click.option(
    "--boxes", default="10,50,100,200,500,1000,2000", show_default=True, metavar="N,N", help="Numbers of boxes kept."
)
@options.classes
@options.bad_boxes
@options.as_json
@click.pass_obj
def command(
    display: Display,
    props: Path,
    data: str,
    split: str,
    boxes: str,
    classes: str | None,
    bad_boxes: str,
    as_json: bool,
) -> None:
    """Share of objects that PROPS covers, by number of boxes kept.

    recall: share of objects that some box covers with at least that IoU. best overlap: of each object, on average.

    \b
    frcnn recall props.h5 --data voc:VOCdevkit/VOC2007 --split test
    frcnn recall props.h5 --data voc:VOCdevkit/VOC2007 --boxes 100,2000 --json
    """
    from frcnn_cli.data.decode import digest_file
    from frcnn_cli.data.identify import records
    from frcnn_cli.errors import DataError
    from frcnn_cli.proposals.recall import recall
    from frcnn_cli.store.join import join
    from frcnn_cli.store.reader import StageFile
    from frcnn_cli.store.schema import PROPOSALS

    try:
        counts = sorted({int(text) for text in boxes.split(",")})
        if counts[0] < 1:
            raise ValueError
    except ValueError:
        raise click.BadParameter(f"{boxes!r} is not a list of numbers from 1", param_hint="--boxes") from None
    dataset = options.resolve_dataset(data, split, bad_boxes, classes)
    with StageFile(props, PROPOSALS) as file:
        rows = join(records(dataset.refs, digest_file), file.images, f"{data} {split}", str(props))
        dataset = dataset.within([file.images[row] for row in rows], bad_boxes)
        images = ((file[row]["boxes"], sample.truth) for row, sample in zip(rows, dataset.samples, strict=True))
        if not any((~sample.truth.difficult).any() for sample in dataset.samples):
            raise DataError(f"split {split!r} of {data} has no objects", "Name another split")
        figures = recall(images, counts)
    if as_json:
        display.json({"images": len(rows), "recall": [asdict(line) for line in figures]})
        return
    display.table(
        ("boxes", "mean", "recall 0.5", "recall 0.7", "best overlap"),
        [
            (
                str(line.count),
                f"{line.mean_boxes:.0f}",
                f"{line.recall_50:.3f}",
                f"{line.recall_70:.3f}",
                f"{line.average_best_overlap:.3f}",
            )
            for line in figures
        ],
        title=f"{props} on {data} {split}, {len(rows)} images",
    )
