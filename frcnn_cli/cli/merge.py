"""frcnn merge: several files of a stage -> one."""

from __future__ import annotations

from pathlib import Path

import click

from frcnn_cli.cli.common import arguments, options
from frcnn_cli.cli.common.command import Command
from frcnn_cli.cli.common.console import Console


@click.command(cls=Command)
@click.argument("files", type=options.PATH, nargs=-1, required=True)
@options.output("props.h5")
@options.force
@options.as_json
@click.pass_obj
def command(console: Console, files: tuple[Path, ...], output: Path, force: bool, as_json: bool) -> None:
    """Merge FILES of a stage into one.

    FILES are the shards of a run (--shard), or files of different images that were made in the same way. Every command
    reads such files as one if it is given a pattern in quotes ('props-*.h5'), so merging is needed only where one file
    is easier to handle. The result has the same data as a run in one piece.

    \b
    frcnn merge props-*.h5 -o props.h5
    frcnn merge dets-first.h5 dets-second.h5 -o dets.h5
    """
    arguments.check_output(output, force, (".h5",), *files)
    from frcnn_cli.store.merge import merge_files
    from frcnn_cli.store.stage import stage_paths

    if any(output.match(pattern.name) for pattern in files if stage_paths(pattern)):
        console.warn(f"{output} matches the pattern of its own shards; move it, or name it otherwise")
    images = merge_files(files, output, force=force, progress=console)
    if as_json:
        console.json({"output": str(output), "images": images})
    else:
        console.note(f"{output}: {images} images")
