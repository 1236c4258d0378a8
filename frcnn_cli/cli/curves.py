"""frcnn curves: the logs of runs -> a page with their curves."""

from __future__ import annotations

from pathlib import Path

import click

from frcnn_cli.cli.common import options
from frcnn_cli.cli.common.command import Command
from frcnn_cli.cli.common.console import Console


@click.command(cls=Command)
@click.argument("runs", nargs=-1, required=True, type=options.PATH, metavar="RUN...")
@click.option(
    "-o",
    "--output",
    type=options.PATH,
    metavar="FILE",
    help="Page to write, .html. Default: curves.html in the first RUN.",
)
@options.force
@click.pass_obj
def command(console: Console, runs: tuple[Path, ...], output: Path | None, force: bool) -> None:
    """Draw the curves of one or more runs on one self-contained page.

    The page shows losses, validation mAP, learning rate and speed against epochs, and the recipe of each run.

    \b
    frcnn curves runs/my
    frcnn curves runs/paper runs/modern -o both.html --force
    """
    from frcnn_cli.core.errors import OutputExistsError
    from frcnn_cli.report.runs import write_runs_page

    if output is None:
        output = (runs[0] if runs[0].is_dir() else runs[0].parent) / "curves.html"
    if output.suffix.lower() != ".html":
        raise click.UsageError(f"-o {output}: the page must end in .html.")
    if output.exists() and not force:
        raise OutputExistsError(output)
    write_runs_page(runs, output)
    console.note(f"{output}: {len(runs)} run(s)")
