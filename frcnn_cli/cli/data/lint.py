"""frcnn data lint: what is wrong with a data set."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from frcnn_cli.cli.common import options
from frcnn_cli.cli.common.command import Command
from frcnn_cli.cli.common.console import Console, SomeFailed


@click.command(cls=Command)
@click.argument("data", metavar="DATA")
@click.option(
    "--images",
    type=options.PATH,
    metavar="DIR",
    help="Folder of the images, if DATA is a file or folder of labels. Default: that of the labels or,"
    " if that folder holds no images, its parent.",
)
@click.option(
    "--props",
    type=options.PATH,
    multiple=True,
    metavar="FILE",
    help="Proposals file to check as well; repeat for other splits.",
)
@click.option(
    "--with",
    "detections",
    type=options.PATH,
    metavar="DETS",
    help="Detections of images of DATA, from a detector not trained on these images: list the labels that the"
    " detections contradict, the most confident detection first.",
)
@click.option(
    "--min-score",
    type=options.Number(0, 1),
    default=0.5,
    show_default=True,
    help="With --with: ignore detections with a lower score.",
)
@click.option(
    "--pictures",
    type=options.PATH,
    metavar="DIR",
    help="With --with: new folder for a picture of each contradiction, with the label in yellow and the detection in"
    " red.",
)
@options.as_json
@click.pass_obj
def command(
    console: Console,
    data: str,
    images: Path | None,
    props: tuple[Path, ...],
    detections: Path | None,
    min_score: float,
    pictures: Path | None,
    as_json: bool,
) -> None:
    """Check all splits of DATA for problems that harm training, and state where they are and how to fix them.

    DATA is a data set, or labels in any layout that frcnn data convert reads. Everything is reported at once:

    \b
    files     that cannot be read; images without annotation, and annotations without image
    boxes     inverted, outside their image, nearly equal to another box, written as fractions of the image size, or
              with a negative coordinate that storage in 16 bits turned into a number above 60,000
    classes   misspelt, or without an object in a split
    images    the same in two splits, of another size than annotated, or rotated by EXIF although their boxes are not
    splits    without an object to learn from

    The exit code is 1 if there are errors, and 0 if there are only warnings.

    \b
    frcnn data lint voc:my-data
    frcnn data lint labels.csv --images photographs/
    frcnn data lint coco:instances_train.json:train2017 --json
    frcnn data lint voc:my-data --props props.h5
    frcnn data lint voc:my-data --with dets-val.h5 --pictures doubtful/
    """
    from frcnn_cli.data.lint import lint_dataset

    if detections is None and pictures is not None:
        raise click.UsageError("--pictures needs --with DETS.")
    result = lint_dataset(data, props, images, detections, min_score, console)
    for layout in result.layouts:
        console.note(f"{data}: read as {layout}")
    if pictures is not None:
        from frcnn_cli.report.contradictions import draw_contradictions

        draw_contradictions(result.contradictions, result.files, pictures, console)
    warnings = len(result.findings) - result.errors
    summary = f"{result.images} images in {result.splits} split(s): {result.errors} error(s), {warnings} warning(s)"
    if as_json:
        found = [finding._asdict() for finding in result.findings]
        about = {"images": result.images, "errors": result.errors, "read_as": result.layouts, "findings": found}
        if detections is not None:
            about["contradictions"] = [asdict(one) for one in result.contradictions]
        console.json(about)
    else:
        for finding in result.findings:
            where = " ".join(part for part in (finding.file, finding.object) if part)
            parts = (finding.level, finding.kind, where, f"{finding.what}. {finding.fix}.")
            console.result(": ".join(part for part in parts if part))
        for one in result.contradictions:
            console.result(f"{one.confidence:.2f}: {one.key}: {one}")
        if detections is not None:
            console.result(f"{len(result.contradictions)} contradiction(s) between the labels and {detections}")
        console.result(summary)
    if result.errors:
        raise SomeFailed(summary)
