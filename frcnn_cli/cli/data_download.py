"""frcnn data download: a data set that others publish -> a folder."""

from __future__ import annotations

from pathlib import Path

import click

from frcnn_cli.cli import options
from frcnn_cli.cli.command import Command
from frcnn_cli.cli.display import Display

# What torchvision knows of each: year and image set of every archive.
_ARCHIVES = {"voc2007": (("2007", "trainval"), ("2007", "test")), "voc2012": (("2012", "trainval"),)}


@click.command(cls=Command)
@click.argument("names", nargs=-1, required=True, type=click.Choice(list(_ARCHIVES)), metavar="NAME...")
@click.option(
    "-o",
    "--output",
    type=options.PATH,
    default=Path("data"),
    show_default=True,
    metavar="DIR",
    help="Folder to hold VOCdevkit.",
)
@click.pass_obj
def command(display: Display, names: tuple[str, ...], output: Path) -> None:
    """Fetch PASCAL VOC 2007 (0.9 GB) or 2012 (2 GB) by torchvision's own downloader, which checks what it gets.

    Archives that are there and whole are not fetched again. In ./data, voc, voc2007 and voc2012 find them by name.

    \b
    frcnn data download voc2007
    frcnn data download voc2007 voc2012 -o /disk/data
    """
    from torchvision.datasets import VOCDetection
    from torchvision.datasets.voc import DATASET_YEAR_DICT

    from frcnn_cli.data.voc import voc_splits
    from frcnn_cli.errors import FrcnnError, explain_os_error

    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_os_error(error, output) from None
    for name in names:
        for year, image_set in _ARCHIVES[name]:
            display.note(f"{name}: {image_set} into {output}")
            try:
                VOCDetection(output, year, image_set, download=True)
            except (OSError, RuntimeError) as error:
                archive = DATASET_YEAR_DICT["2007-test" if (year, image_set) == ("2007", "test") else year]
                raise FrcnnError(
                    f"{archive['filename']} could not be fetched ({error})",
                    f"Fetch it elsewhere (MD5 {archive['md5']}), put it into {output}, and run this again",
                ) from None
        folder = output / "VOCdevkit" / name.upper()
        display.result(f"{folder}: {', '.join(voc_splits(folder))}")
