"""frcnn export: props.h5 -> other tools' box files."""

from __future__ import annotations

from pathlib import Path

import click

from frcnn_cli.cli import options
from frcnn_cli.cli.command import Command
from frcnn_cli.cli.display import Display


@click.command(cls=Command)
@click.argument("props", type=options.PATH)
@click.option(
    "--format",
    "form",
    required=True,
    type=click.Choice(["detectron2", "mmdet", "mat", "coco", "csv"]),
    help="detectron2, mmdet: pickles; mat: cell arrays as selective search was published; coco: results; csv.",
)
@click.option("-o", "--output", type=options.PATH, required=True, metavar="FILE", help="File to write.")
@options.force
@click.pass_obj
def command(display: Display, props: Path, form: str, output: Path, force: bool) -> None:
    """Write PROPS as another tool reads boxes.

    frcnn import reads each of them back to the same boxes (COCO results have no place for images without any).
    detectron2 and COCO want scores: boxes that have none get falling ones by their rank.

    \b
    frcnn export props.h5 --format detectron2 -o props.pkl
    frcnn export props.h5 --format mat -o boxes.mat
    """
    from frcnn_cli.errors import OutputExistsError
    from frcnn_cli.proposals.files.exporting import FORMATS
    from frcnn_cli.proposals.source import Proposals
    from frcnn_cli.store.files import write_whole
    from frcnn_cli.store.reader import StageFile
    from frcnn_cli.store.schema import PROPOSALS

    ending, write = FORMATS[form]
    if output.suffix.lower() != ending:
        raise click.UsageError(f"-o {output}: {form} is a {ending} file.")
    options.must_differ(output, props)
    if output.exists() and not force:
        raise OutputExistsError(output)
    with StageFile(props, PROPOSALS) as file:
        items = [(image, Proposals(arrays["boxes"], arrays.get("scores"))) for image, arrays in file]
    write_whole(output, write(items))
    display.note(f"{output}: {len(items)} images, {sum(len(found.boxes) for _, found in items)} boxes")
