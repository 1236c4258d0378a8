"""frcnn data: fetching, converting and checking data sets."""

from __future__ import annotations

from importlib import import_module

import click

ACTIONS = ("download", "convert", "lint")


class _LazyActions(click.Group):
    """The module `frcnn_cli.cli.data_NAME` holds each action as `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(ACTIONS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in ACTIONS:
            return None
        command: click.Command = import_module(f"frcnn_cli.cli.data_{cmd_name}").command
        return command


@click.group(cls=_LazyActions)
def command() -> None:
    """Fetch, convert and check data sets.

    \b
    frcnn data download voc2007
    frcnn data convert labels.csv --images pictures/ --to voc -o my-data
    frcnn data lint voc:my-data
    """
