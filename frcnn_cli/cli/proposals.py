"""frcnn proposals: images -> props.h5."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import click

from frcnn_cli.cli import options, resolve
from frcnn_cli.cli.command import Command
from frcnn_cli.cli.display import Display
from frcnn_cli.cli.failures import Failures


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
@options.source
@options.settings
@click.option("--max-boxes", default=2000, show_default=True, type=click.IntRange(1), help="Boxes kept an image.")
@click.option(
    "--min-size", default=20.0, show_default=True, type=options.Number(0), help="Narrower or lower boxes are dropped."
)
@click.option(
    "--workers",
    default=None,
    type=click.IntRange(0),
    help="Processes. Default: one a core. 0: none but this one, which a crash of the source then ends.",
)
@click.option(
    "--timeout",
    default=None,
    type=options.Number(0, min_open=True),
    metavar="SECONDS",
    help="An image that takes longer is named and skipped. Default: none.",
)
@options.split
@options.force
@options.as_json
@click.pass_obj
def command(
    display: Display,
    images: tuple[str, ...],
    output: Path,
    sources: tuple[str, ...],
    settings: tuple[str, ...],
    max_boxes: int,
    min_size: float,
    workers: int | None,
    timeout: float | None,
    split: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Compute region proposals: boxes that may hold an object.

    IMAGES are files, folders (searched recursively), @list.txt with a path a line, or a data set with --split. Stopped
    at any moment, the same command goes on where it was.

    \b
    frcnn proposals images/ -o props.h5
    frcnn proposals voc:VOCdevkit/VOC2007 --split trainval -o props.h5 --set preset=quality
    frcnn proposals a.jpg b.jpg -o props.h5 --source file --set path=boxes.csv
    """
    from frcnn_cli.data.decode import digest_file, read_ref
    from frcnn_cli.proposals.propose import Limits
    from frcnn_cli.proposals.runner import propose_many
    from frcnn_cli.store.schema import PROPOSALS
    from frcnn_cli.store.writer import StageWriter

    if workers == 0 and timeout is not None:
        raise click.UsageError("--timeout needs a process to end: give --workers 1 or more.")
    configured = resolve.source(sources, settings)
    refs = resolve.images(images, split)
    resolve.must_differ(output, *configured.files())
    limits = Limits(max_boxes, min_size)
    provenance: dict[str, Any] = {"source": configured.described(), **limits._asdict()}
    failures = Failures(display)
    started = time.perf_counter()
    boxes = 0
    with StageWriter(output, PROPOSALS, provenance, force, extend=True) as out:
        todo = out.missing(refs, digest_file)
        if len(todo) < len(refs):
            display.note(f"{len(refs) - len(todo)} of {len(refs)} images were finished by an earlier run")
        if todo:
            resolve.prepare(configured)
        with display.progress("proposals", len(todo)) as bar:
            for done in propose_many(
                todo, configured, read_ref, limits, _cores() if workers is None else workers, timeout
            ):
                if done.error is not None:
                    failures.add(done.ref.key, done.error)
                elif done.record is not None and done.proposals is not None:
                    columns = {"boxes": done.proposals.boxes}
                    if done.proposals.scores is not None:
                        columns["scores"] = done.proposals.scores
                    out.add(done.record, columns)
                    boxes += len(done.proposals.boxes)
                bar.advance()
        failures.list_all(len(refs))
        written = out.finish()
    seconds = time.perf_counter() - started
    if as_json:
        display.json(
            {
                "output": str(output),
                "images": written,
                "computed": len(todo) - len(failures.errors),
                "boxes_computed": boxes,
                "seconds": round(seconds, 3),
                "failed": failures.as_json(),
            }
        )
    else:
        display.note(f"{output}: {written} images, {boxes} new boxes, {seconds:.1f} s")
    failures.end()
