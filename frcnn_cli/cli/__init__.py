"""The command line: one file per command, imported only when it is used. Commands parse, call and display."""

from __future__ import annotations

import click

from frcnn_cli import __version__
from frcnn_cli.cli.common.command import LazyGroup
from frcnn_cli.system.startup import start_and_end_quickly

# In the order of the work: the stages first, then what supports them.
COMMANDS = (
    *("demo", "proposals", "import", "export", "recall", "show"),
    *("train", "curves", "detect", "features", "score", "nms", "embed", "vectors", "merge"),
    *("eval", "compare", "data", "models", "compress", "inspect", "recipes", "plugins", "doctor"),
)


@click.group(
    cls=LazyGroup,
    package=__name__,
    names=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="frcnn")
def main() -> None:
    """Fast R-CNN as a toolkit of stages. Each stage from images to detections writes an HDF5 file.

    \b
    images -> proposals -> features -> scores -> detections -> AP
              props.h5     feats.h5    scores.h5  dets.h5

    \b
    frcnn demo                                               run everything on synthetic data, in up to three minutes
    frcnn proposals images/ -o props.h5                      boxes for a folder of images
    frcnn train --data voc:DIR --props props.h5 -o runs/my   a detector from labelled images
    frcnn detect img.jpg --show                              the objects in an image
    """
    start_and_end_quickly()
