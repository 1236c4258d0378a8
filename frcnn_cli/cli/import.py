"""frcnn import: box files of other tools -> props.h5."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from frcnn_cli.cli.common import arguments, options
from frcnn_cli.cli.common.command import Command
from frcnn_cli.cli.common.console import Console

if TYPE_CHECKING:
    from frcnn_cli.proposals.box_files.interpreting import Interpretation


@click.command(cls=Command)
@click.argument("file", type=options.PATH)
@click.option(
    "--data",
    required=True,
    metavar="DATA",
    help="The images: a data set (voc:DIR, or voc), whose objects help to detect the convention, or files and folders.",
)
@options.split
@options.output("props.h5")
@options.order
@options.base
@options.end
@options.relative
@click.option(
    "--on-bad",
    type=click.Choice(["error", "drop", "clip"]),
    default="error",
    show_default=True,
    help="Boxes outside their image, without area, inverted or not finite. error: count them all and stop; drop: drop"
    " them; clip: clip them to the image, and drop those without area.",
)
@click.option(
    "--without",
    type=click.Choice(["error", "empty"]),
    default="error",
    show_default=True,
    help="Images without an entry in the file. error: count them all and stop; empty: they have no boxes.",
)
@options.force
@options.as_json
@click.pass_obj
def command(
    console: Console,
    file: Path,
    data: str,
    split: str | None,
    output: Path,
    order: str | None,
    base: str | None,
    end: str | None,
    relative: bool | None,
    on_bad: Literal["error", "drop", "clip"],
    without: Literal["error", "empty"],
    force: bool,
    as_json: bool,
) -> None:
    """Convert a box file of another tool to a proposals file.

    FILE is a .mat (of selective search and others, v5 or v7.3), a .pkl of Detectron, detectron2 or MMDetection, a .json
    (COCO results, or boxes by image), a .csv, a .tsv, an .npz, a .h5 of frcnn, or a folder with one .mat or .npy per
    image.

    The convention of its numbers is detected from the image sizes, and from the objects of a data set. It is
    printed, with any assumptions; you can state it with options instead. Boxes are sorted by score if the file has
    scores, and otherwise keep their order; duplicates within an image are dropped.

    \b
    frcnn import voc_2007_trainval.mat --data voc:VOCdevkit/VOC2007 --split trainval -o props.h5
    frcnn import boxes.pkl --data images/ -o props.h5 --order xywh --base 0
    frcnn import boxes.csv --data voc:my-data --split test -o props.h5 --on-bad clip
    """
    from frcnn_cli.proposals.importing import import_boxes

    arguments.check_output(output, force, (".h5",), file)
    stated = options.convention(order, base, end, relative)
    refs, truths = arguments.labelled_images(data, split)
    done = import_boxes(
        file, output, refs, truths, stated, on_bad, without, force,
        on_interpreted=lambda interpretation: _report(console, interpretation, stated),
    )  # fmt: skip
    found, bad = done.interpretation, done.bad
    if bad.counts:
        console.warn(f"{bad}: {bad.clipped} clipped to the image, {bad.dropped} dropped")
    if done.duplicates:
        console.note(f"{done.duplicates} boxes were equal to another box of their image, and were skipped")
    if as_json:
        console.json(
            {"output": str(output), "kind": found.file.kind, "images": done.images, "boxes": done.boxes}
            | {"matched": found.matched, "convention": vars(found.convention), "because": found.finding.because}
            | {"unused_entries": len(found.unused), "bad": bad.counts, "cut": bad.clipped, "equal": done.duplicates}
        )
    else:
        console.note(f"{output}: {done.images} images, {done.boxes} boxes")


def _report(console: Console, found: Interpretation, stated: Mapping[str, Any]) -> None:
    """Prints how the file is interpreted, and warns of what is not certain."""
    from frcnn_cli.core.convention import OPTIONS

    console.note(f"{found.file.path}: {found.file.kind}, {found.file.count} entries, matched {found.matched}")
    console.note(f"read as {found.finding}")
    for doubt in found.finding.doubts():
        console.warn(doubt)
    for name, value in stated.items():
        if name in found.file.stated and found.file.stated[name] != value:
            console.warn(f"the file states another value for {OPTIONS[name]}; the value on the command line is used")
    if found.matched not in ("by name", "by order"):
        console.warn(
            f"some images have no entry with their full name; entries were matched {found.matched}: check this"
        )
    if found.unused:
        console.warn(f"{len(found.unused)} entries belong to none of the images, e.g. {found.unused[0]!r}")
