"""frcnn data download: published data sets -> a folder."""

from __future__ import annotations

from pathlib import Path

import click

from frcnn_cli.cli.common import options
from frcnn_cli.cli.common.command import Command
from frcnn_cli.cli.common.console import Console


@click.command(cls=Command)
@click.argument("names", nargs=-1, required=True, type=click.Choice(["voc2007", "voc2012"]), metavar="NAME...")
@click.option(
    "-o",
    "--output",
    type=options.PATH,
    default=Path("data"),
    show_default=True,
    metavar="DIR",
    help="Folder for VOCdevkit.",
)
@click.pass_obj
def command(console: Console, names: tuple[str, ...], output: Path) -> None:
    """Download PASCAL VOC 2007 (0.9 GB) or 2012 (2 GB) with torchvision, which verifies the checksums.

    Complete archives in the folder are not downloaded again. If the folder is ./data or $FRCNN_DATA, other
    commands find the data sets under the names voc, voc2007 and voc2012.

    \b
    frcnn data download voc2007
    frcnn data download voc2007 voc2012 -o /disk/data
    """
    from frcnn_cli.data.download import download_voc
    from frcnn_cli.data.formats.voc import voc_splits

    for name in names:
        console.note(f"{name}: downloading to {output}")
        folder = download_voc(name, output)
        console.result(f"{folder}: {', '.join(voc_splits(folder))}")
