"""frcnn data lint: what is wrong with a data set."""

from __future__ import annotations

from pathlib import Path

import click

from frcnn_cli.cli.common import options
from frcnn_cli.cli.common.command import Command
from frcnn_cli.cli.common.console import Console, SomeFailed


@click.command(cls=Command)
@click.argument("data", metavar="DATA")
@click.option(
    "--props",
    type=options.PATH,
    multiple=True,
    metavar="FILE",
    help="Proposals file to check as well; repeat for other splits.",
)
@options.as_json
@click.pass_obj
def command(console: Console, data: str, props: tuple[Path, ...], as_json: bool) -> None:
    """Check all splits of DATA for problems that harm training, and state where they are and how to fix them.

    It reports boxes that are inverted, outside their image, or have a corner below 0 that was stored in 16 bits and
    became a number above 60,000; misspelt classes; images without annotation and annotations without image; wrong
    image sizes; images rotated by EXIF whose boxes are not rotated; the same image in two splits; and classes that a
    split lacks. The exit code is 1 if there are errors, and 0 if there are only warnings.

    \b
    frcnn data lint voc:my-data
    frcnn data lint coco:instances_train.json:train2017 --json
    frcnn data lint voc:my-data --props props.h5
    """
    from frcnn_cli.data.lint import lint_dataset

    result = lint_dataset(data, props, console)
    warnings = len(result.findings) - result.errors
    summary = f"{result.images} images in {result.splits} split(s): {result.errors} error(s), {warnings} warning(s)"
    if as_json:
        found = [finding._asdict() for finding in result.findings]
        console.json({"images": result.images, "errors": result.errors, "findings": found})
    else:
        for finding in result.findings:
            where = " ".join(part for part in (finding.file, finding.object) if part)
            parts = (finding.level, finding.kind, where, f"{finding.what}. {finding.fix}.")
            console.result(": ".join(part for part in parts if part))
        console.result(summary)
    if result.errors:
        raise SomeFailed(summary)
