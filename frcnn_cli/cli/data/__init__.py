"""frcnn data: download, convert and check data sets."""

from __future__ import annotations

import click

from frcnn_cli.cli.common.command import LazyGroup


@click.group(cls=LazyGroup, package=__name__, names=("download", "convert", "lint"))
def command() -> None:
    """Download, convert and check data sets.

    \b
    frcnn data download voc2007
    frcnn data convert labels.csv --images photographs/ --to voc -o my-data
    frcnn data lint voc:my-data
    """
