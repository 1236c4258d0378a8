"""frcnn proposals: images -> props.h5."""

from __future__ import annotations

from pathlib import Path

import click

from frcnn_cli.cli.common import arguments, cluster, options
from frcnn_cli.cli.common.command import Command
from frcnn_cli.cli.common.console import Console


class _WithSources(Command):
    """Shows every source and its options at the end of --help."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from frcnn_cli.proposals.registry import load_registry

        for name, loaded in load_registry().sources.items():
            with formatter.section(f"Source {name} ({loaded.origin})"):
                rows = [
                    (f"--set {opt.name}={opt.type_name}", f"{opt.help}  [{opt.default_text}]")
                    for opt in loaded.source.options()
                ]
                formatter.write_dl(rows or [("", "no options")])


@click.command(cls=_WithSources)
@options.images
@options.output("props.h5")
@options.source("selective-search")
@options.settings
@click.option(
    "--max-boxes", default=2000, show_default=True, type=click.IntRange(1), help="Maximum number of boxes per image."
)
@click.option(
    "--min-size",
    default=20.0,
    show_default=True,
    type=options.Number(0),
    help="Minimum width and height of a box, in pixels.",
)
@click.option(
    "--workers",
    default=None,
    type=click.IntRange(0),
    help="Worker processes (default: one per core; none for a single image). 0: run in this process; a crash of the"
    " source then ends the command.",
)
@click.option(
    "--timeout",
    default=None,
    type=options.Number(0, min_open=True),
    metavar="SECONDS",
    help="Maximum time per image; an image that takes longer is reported and skipped. Default: no limit.",
)
@cluster.for_sources
@options.split
@options.shard
@options.force
@options.as_json
@click.pass_obj
def command(
    console: Console,
    images: tuple[str, ...],
    output: Path,
    sources: tuple[str, ...],
    settings: tuple[str, ...],
    max_boxes: int,
    min_size: float,
    workers: int | None,
    timeout: float | None,
    split: str | None,
    shard: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Compute region proposals: boxes that may contain an object.

    IMAGES are files, folders (searched recursively), @list.txt with one path per line, a data set, or images stored
    elsewhere: s3://BUCKET/FOLDER, https://HOST/A.jpg, 'tar:{000..099}.tar', or a .parquet table. After an interruption
    at any moment, the same command continues where it stopped.

    \b
    frcnn proposals images/ -o props.h5
    frcnn proposals voc:VOCdevkit/VOC2007 --split trainval -o props.h5 --set preset=quality
    frcnn proposals a.jpg b.jpg -o props.h5 --source file --set path=boxes.csv
    frcnn proposals /shared/images --cluster auto -o props.h5
    """
    if output.suffix and output.suffix.lower() != ".h5" and not output.is_dir():
        raise click.UsageError(f"-o {output}: the file must end in .h5.")
    if workers == 0 and timeout is not None:
        raise click.UsageError("--timeout needs a process that it can end: use --workers 1 or more.")
    machines = cluster.chosen()
    if machines is not None and workers is not None:
        raise click.UsageError("--workers are processes of this machine; give either --workers or --cluster.")
    arguments.check_images(images, split)
    from frcnn_cli.proposals.limits import Limits
    from frcnn_cli.proposals.run import propose_images

    source = arguments.source(sources, settings)
    refs = arguments.images(images, split)
    arguments.must_differ(output, *source.files())
    done = propose_images(
        refs,
        output,
        source,
        limits=Limits(max_boxes, min_size),
        workers=workers,
        timeout=timeout,
        shard=shard,
        cluster=machines,
        force=force,
        progress=console,
    )
    if as_json:
        console.json(
            {
                "output": str(output),
                "images": done.images,
                "computed": done.computed,
                "boxes_computed": done.rows,
                "seconds": round(done.seconds, 3),
                "failed": console.failures_as_json(),
            }
        )
    else:
        console.note(f"{output}: {done.images} images, {done.rows} new boxes, {done.seconds:.1f} s")
    console.end(len(refs))
