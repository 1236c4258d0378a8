"""frcnn show: proposals drawn on their image."""

from __future__ import annotations

from pathlib import Path

import click

from frcnn_cli.cli.common import arguments, options
from frcnn_cli.cli.common.command import Command
from frcnn_cli.cli.common.console import Console


@click.command(cls=Command)
@click.argument("props", type=options.PATH)
@click.argument("image", type=options.PATH)
@click.option("--top", default=20, show_default=True, type=click.IntRange(1), help="Number of boxes, the best first.")
@click.option(
    "--data",
    default=None,
    metavar="DATA",
    help="Data set of the image (voc:DIR). Draws each object, its best box, and their IoU.",
)
@click.option("--split", default=None, metavar="NAME", help="Split of the data set. Default: the one with the image.")
@click.option(
    "--boxes",
    default=2000,
    show_default=True,
    type=click.IntRange(1),
    help="With --data: maximum number of boxes to consider.",
)
@click.option(
    "-o", "--output", type=options.PATH, default=None, metavar="FILE", help="Save the picture; open no window."
)
@options.force
@click.pass_obj
def command(
    console: Console,
    props: Path,
    image: Path,
    top: int,
    data: str | None,
    split: str | None,
    boxes: int,
    output: Path | None,
    force: bool,
) -> None:
    """Draw the best boxes of PROPS on IMAGE, or with --data the boxes that cover its objects.

    Objects are yellow. The box that covers an object best is green, or red if its IoU is less than 0.5.

    \b
    frcnn show props.h5 img.jpg --top 50
    frcnn show props.h5 voc/JPEGImages/000004.jpg --data voc:voc -o covered.jpg
    """
    if split is not None and data is None:
        raise click.UsageError("--split needs --data.")
    if output is not None:
        arguments.check_output(output, force, (".jpg", ".jpeg", ".png"), image, props)

    from frcnn_cli.cli.common.window import present
    from frcnn_cli.core.decoding import read_image
    from frcnn_cli.core.files import save_image
    from frcnn_cli.report.proposals import boxes_of_image, draw_best, draw_coverage, objects_of_image

    read = read_image(image)
    found = boxes_of_image(props, read)
    if data is None:
        drawn = draw_best(read, found[:top])
        console.note(f"{min(top, len(found))} of {len(found)} boxes")
    else:
        considered = found[:boxes]
        drawn, objects = draw_coverage(read, considered, *objects_of_image(read, data, split))
        covered = sum(one.covered for one in objects)
        title = f"{covered} of {len(objects)} objects covered (IoU 0.5) by {len(considered)} boxes"
        rows = [(one.name, f"{one.iou:.3f}", str(one.rank or "-")) for one in objects]
        console.table(("object", "best IoU", "rank"), rows, title=title)
    if output is not None:
        save_image(drawn, output)
        console.note(f"the picture is in {output}")
    else:
        present(console, drawn, image.name, f"{image.stem}-proposals", force)
