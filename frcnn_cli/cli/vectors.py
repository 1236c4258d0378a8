"""frcnn vectors: vectors of boxes, from one format to another."""

from __future__ import annotations

from pathlib import Path

import click

from frcnn_cli.cli.common import arguments, options
from frcnn_cli.cli.common.command import Command
from frcnn_cli.cli.common.console import Console
from frcnn_cli.core.errors import OutputExistsError

_FORMATS = click.Choice(["h5", "bottom-up", "lxmert", "npz", "folders"])


@click.command(cls=Command)
@click.argument("file", type=options.PATH)
@click.option("--from", "source", type=_FORMATS, default="h5", show_default=True, help="Format of FILE.")
@click.option("--to", "target", type=_FORMATS, required=True, help="Format to write.")
@click.option("-o", "--output", type=options.PATH, required=True, metavar="OUT", help="File or folder to write.")
@click.option(
    "--data",
    metavar="DATA",
    help="The images, which an .h5 identifies by their content: needed for --to h5. A data set, or files and folders.",
)
@options.split
@options.force
@options.as_json
@click.pass_obj
def command(
    console: Console,
    file: Path,
    source: str,
    target: str,
    output: Path,
    data: str | None,
    split: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Convert vectors between the .h5 of frcnn and the formats of other programs.

    bottom-up and lxmert are .tsv files without a header, with arrays in base64; npz is a folder with one .npz per image
    (x, bbox, num_bbox, image_h, image_w); folders are OUT_att, OUT_fc and OUT_box. Reading a file
    back gives the same boxes and vectors; vectors from a .tsv are float32.

    \b
    frcnn vectors vectors.h5 --to bottom-up -o vectors.tsv
    frcnn vectors vectors.h5 --to folders -o data/coco
    frcnn vectors features.tsv --from lxmert --to h5 --data images/ -o vectors.h5
    """
    if source == target:
        raise click.UsageError("--from and --to are the same format.")
    if (target == "h5") != (data is not None):
        raise click.UsageError("--to h5 needs --data DATA; the other formats do not take it.")
    if source == "h5" and (file.suffix.lower() == ".tsv" or file.is_dir()):
        raise click.UsageError(f"{file} is not an .h5 file: name its format with --from.")
    arguments.must_differ(output, file)
    first = output.with_name(f"{output.name}_att") if target == "folders" else output
    if first.exists() and not force:
        raise OutputExistsError(first)
    refs = None if data is None else arguments.labelled_images(data, split)[0]

    from frcnn_cli.inference.vectors import convert_vectors

    images, boxes = convert_vectors(file, source, output, target, refs, force=force, progress=console)
    if as_json:
        console.json({"output": str(output), "images": images, "boxes": boxes})
    else:
        console.note(f"{output}: {images} images, {boxes} vectors")
