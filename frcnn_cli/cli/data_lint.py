"""frcnn data lint: a data set -> what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import click

from frcnn_cli.cli import options
from frcnn_cli.cli.command import Command, SomeFailed
from frcnn_cli.cli.display import Display


@click.command(cls=Command)
@click.argument("data", metavar="DATA")
@click.option(
    "--props",
    type=options.PATH,
    multiple=True,
    metavar="FILE",
    help="Proposals to check along; repeat for more splits.",
)
@options.as_json
@click.pass_obj
def command(display: Display, data: str, props: tuple[Path, ...], as_json: bool) -> None:
    """Find what would harm training in all splits of DATA: file, object, what to do.

    Boxes that are inverted, wrapped or outside, misspelt classes, pictures and annotations that lack each other, sizes
    that differ, pictures that EXIF turns and their boxes do not, the same picture in two splits, classes that a split
    lacks. Exits with 1 if anything would harm; warnings alone are 0.

    \b
    frcnn data lint voc:my-data
    frcnn data lint coco:instances_train.json:train2017 --json
    frcnn data lint voc:my-data --props props.h5
    """
    from frcnn_cli.data.decode import read_image
    from frcnn_cli.data.lint import lint, lint_folder, lint_proposals, unreadable
    from frcnn_cli.data.prefetch import prefetch
    from frcnn_cli.data.spec import read_splits
    from frcnn_cli.errors import DataError, ImageError
    from frcnn_cli.image import ImageRecord, ImageRef
    from frcnn_cli.store.reader import StageFile
    from frcnn_cli.store.schema import PROPOSALS

    def read(ref: ImageRef) -> ImageRecord | str:
        try:
            return read_image(ref.path, ref.key).record  # decoded whole: a truncated one has a sound header
        except ImageError as error:
            return error.what

    splits, folders, problems = read_splits(data)
    if not splits:
        raise DataError(f"{data} has no split", "List the keys of its images in ImageSets/Main/trainval.txt")
    refs = list({image.ref.path: image.ref for labels in splits for image in labels.images}.values())
    records = {}
    with display.progress("lint", len(refs)) as bar:
        for ref, record in zip(refs, prefetch(read, refs), strict=True):
            records[ref.path] = record
            bar.advance()
    found = [*unreadable(problems), *lint(splits, records)]
    for folder in dict.fromkeys(folders):
        found += lint_folder(folder)
    for path in props:
        with StageFile(path, PROPOSALS) as file:
            found += lint_proposals(str(path), file.images, file.counts(), splits, records)
    found.sort(key=lambda finding: (finding.level, finding.kind, finding.file))
    errors = sum(finding.level == "error" for finding in found)
    summary = f"{len(refs)} images in {len(splits)} split(s): {errors} error(s), {len(found) - errors} warning(s)"
    if as_json:
        display.json({"images": len(refs), "errors": errors, "findings": [finding._asdict() for finding in found]})
    else:
        for finding in found:
            where = " ".join(part for part in (finding.file, finding.object) if part)
            parts = (finding.level, finding.kind, where, f"{finding.what}. {finding.fix}.")
            display.result(": ".join(part for part in parts if part))
        display.result(summary)
    if errors:
        raise SomeFailed(summary)
