"""frcnn import: other tools' box files -> props.h5."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from frcnn_cli.cli import options, resolve
from frcnn_cli.cli.command import Command
from frcnn_cli.cli.display import Display

if TYPE_CHECKING:
    from frcnn_cli.proposals.files.importing import Import


@click.command(cls=Command)
@click.argument("file", type=options.PATH)
@click.option(
    "--data",
    required=True,
    metavar="DATA",
    help="The images: a data set (voc:DIR, or voc), whose objects help to find the convention, or files and folders.",
)
@options.split
@options.output("props.h5")
@click.option(
    "--order", type=click.Choice(["xyxy", "yxyx", "xywh", "yxhw", "cxcywh"]), help="What the four numbers of a box are."
)
@click.option("--base", type=click.Choice(["0", "1"]), help="The first pixel's coordinate.")
@click.option(
    "--end",
    type=click.Choice(["inside", "beyond"]),
    help="The far corner is the last pixel inside the box, or the first beyond (its width is x2 - x1).",
)
@click.option("--relative/--absolute", default=None, help="Numbers are shares of the image's size, or pixels.")
@click.option(
    "--on-bad",
    type=click.Choice(["error", "drop", "clip"]),
    default="error",
    show_default=True,
    help="Boxes outside their image, without area, inverted or not finite: stop and count them, drop them, or cut to"
    " the image what can be cut and drop the rest.",
)
@click.option(
    "--without",
    type=click.Choice(["error", "empty"]),
    default="error",
    show_default=True,
    help="Images that the file has no entry for: stop and count them, or give them no boxes.",
)
@options.force
@options.as_json
@click.pass_obj
def command(
    display: Display,
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
    """Read the boxes that another tool wrote into a proposals file.

    FILE is a .mat (selective search's and others', v5 or v7.3), a .pkl of Detectron, detectron2 or MMDetection, COCO
    results or boxes by image in .json, .csv, .npz, a .h5 of ours, or a folder with a .mat or .npy an image.

    How its numbers are meant is found out from the images' sizes, and from the objects of a data set; what was found
    and what was assumed is printed, and can be stated. All boxes are kept, in their order or by their scores, but of
    equal ones one.

    \b
    frcnn import voc_2007_trainval.mat --data voc:VOCdevkit/VOC2007 --split trainval -o props.h5
    frcnn import boxes.pkl --data images/ -o props.h5 --order xywh --base 0
    frcnn import boxes.csv --data voc:my-data --split test -o props.h5 --on-bad clip
    """
    from frcnn_cli.data.decode import read_record
    from frcnn_cli.data.prefetch import prefetch
    from frcnn_cli.proposals.files.importing import Troubles, import_boxes, read_box_file, understand
    from frcnn_cli.proposals.propose import Limits, kept
    from frcnn_cli.proposals.sources.file import FileSource
    from frcnn_cli.store.schema import PROPOSALS
    from frcnn_cli.store.writer import StageWriter

    resolve.must_differ(output, file)
    stated: dict[str, Any] = {
        "order": order,
        "base": None if base is None else int(base),
        "inclusive": None if end is None else end == "inside",
        "relative": relative,
    }
    boxes = read_box_file(file)
    refs, truths = resolve.labelled_images(data, split)
    records = list(prefetch(read_record, refs, threads=4, ahead=16))
    found = understand(boxes, refs, records, truths, {k: v for k, v in stated.items() if v is not None})
    _tell(display, found, {k: v for k, v in stated.items() if v is not None})
    if found.unused:
        display.warn(f"{len(found.unused)} entries are of none of the images, e.g. {found.unused[0]!r}")
    bad = Troubles()
    imported = list(import_boxes(found, records, on_bad, without, bad))
    everything = Limits(max((len(proposals.boxes) for _, proposals in imported), default=0) or 1, 0.0)
    source = FileSource(file, **vars(found.convention))
    provenance = {"source": source.described(), **everything._asdict(), "on_bad": on_bad}
    total = equal = 0
    with StageWriter(output, PROPOSALS, provenance, force) as out:
        for record, proposals in imported:
            given, proposals = len(proposals.boxes), kept(proposals, everything)
            total += len(proposals.boxes)
            equal += given - len(proposals.boxes)
            columns = {"boxes": proposals.boxes}
            if proposals.scores is not None:
                columns["scores"] = proposals.scores
            out.add(record, columns)
        out.finish()
    if bad.counts:
        display.warn(f"{bad}: {bad.cut} cut to the image, {sum(bad.counts.values()) - bad.cut} dropped")
    if equal:
        display.note(f"{equal} boxes were equal to another of their image and left out")
    if as_json:
        display.json(
            {
                "output": str(output),
                "kind": boxes.kind,
                "images": len(records),
                "boxes": total,
                "matched": found.matched,
                "convention": vars(found.convention),
                "because": found.finding.because,
                "unused_entries": len(found.unused),
                "bad": bad.counts,
                "cut": bad.cut,
                "equal": equal,
            }
        )
    else:
        display.note(f"{output}: {len(records)} images, {total} boxes")


_FLAGS = {"order": "--order", "base": "--base", "inclusive": "--end", "relative": "--relative"}


def _tell(display: Display, found: Import, stated: dict[str, Any]) -> None:
    """Says how the file is understood, and warns of what is not sure."""
    because = found.finding.because
    reasons = ", ".join(f"{_FLAGS[name].lstrip('-')} {why}" for name, why in because.items())
    display.note(f"{found.file.path}: {found.file.kind}, {found.file.count} entries, matched {found.matched}")
    display.note(f"read as {found.convention} ({reasons})")
    assumed = [_FLAGS[name] for name, why in because.items() if why == "assumed"]
    if assumed:
        display.warn(f"nothing tells {', '.join(assumed)} for sure: state what is right, or see that this reading is")
    for name, value in stated.items():
        if name in found.file.told and found.file.told[name] != value:
            display.warn(f"the file says otherwise than {_FLAGS[name]}, which is followed")
    if found.matched not in ("by name", "by order"):
        display.warn(f"no entry has an image's whole name; matched {found.matched}: see that it is right")
