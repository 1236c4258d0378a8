"""The command line: one file a command, imported only when it is called for."""

from __future__ import annotations

from importlib import import_module

import click

from frcnn_cli import __version__

# In the order of the work: the stages, then what goes around them.
COMMANDS = (
    "demo",
    "proposals",
    "import",
    "export",
    "recall",
    "show",
    "train",
    "curves",
    "detect",
    "features",
    "score",
    "nms",
    "eval",
    "compare",
    "data",
    "compress",
    "inspect",
    "recipes",
    "plugins",
    "doctor",
)


class _LazyGroup(click.Group):
    """Commands by name; the module `frcnn_cli.cli.NAME` holds each as `command`, and is light to import."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"frcnn_cli.cli.{cmd_name}").command
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="frcnn")
def main() -> None:
    """Fast R-CNN as a toolkit of stages, each of which leaves an HDF5 file behind.

    \b
    images -> proposals -> features -> scores -> detections -> AP
              props.h5     feats.h5    scores.h5  dets.h5

    \b
    frcnn demo                                               see it all work, in three minutes
    frcnn proposals images/ -o props.h5                      boxes for a folder of images
    frcnn train --data voc:DIR --props props.h5 -o runs/my   a detector from labelled images
    frcnn detect img.jpg --show                              what is in a picture
    """
