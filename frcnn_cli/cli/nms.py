"""frcnn nms: scores.h5 -> dets.h5."""

from __future__ import annotations

from pathlib import Path

import click

from frcnn_cli.cli.common import arguments, options
from frcnn_cli.cli.common.command import Command
from frcnn_cli.cli.common.console import Console


@click.command(cls=Command)
@click.argument("scores", type=options.PATH)
@options.output("dets.h5")
@options.nms_iou
@options.min_score
@options.per_class
@options.max_per_image
@click.option(
    "--per-set",
    default=None,
    type=click.IntRange(0),
    help="Before NMS, keep per class, over the whole set, at most N boxes, where N is this number times the number of"
    " images; 0: all. Default: that of the model's recipe.",
)
@options.force
@options.as_json
@click.pass_obj
def command(
    console: Console,
    /,
    scores: Path,
    output: Path,
    per_set: int | None,
    force: bool,
    as_json: bool,
    **thresholds: float | int | None,
) -> None:
    """Turn SCORES into detections.

    Applies a score threshold and non-maximum suppression per class, then keeps the best detections of each image. The
    paper recipe does not limit detections per image: it limits the boxes of each class over the whole set of images,
    before suppression.

    \b
    frcnn nms scores.h5 -o dets.h5
    frcnn nms scores.h5 -o dets.h5 --iou 0.5 --min-score 0.01 --max-per-image 300
    """
    from frcnn_cli.inference.nms import suppress
    from frcnn_cli.store.stage import open_stage

    arguments.must_differ(output, scores)
    done = suppress(scores, output, per_set=per_set, force=force, progress=console, **thresholds)
    with open_stage(output) as file:
        found = file.row_count
    if as_json:
        console.json({"output": str(output), "images": done.images, "detections": found})
    else:
        console.note(f"{output}: {done.images} images, {found} detections")
