"""frcnn recall: how well proposals cover the objects."""

from __future__ import annotations

from pathlib import Path

import click

from frcnn_cli.cli.common import arguments, options
from frcnn_cli.cli.common.command import Command
from frcnn_cli.cli.common.console import Console
from frcnn_cli.cli.common.coverage import Objects, coverage_as_json, print_coverage


@click.command(cls=Command)
@click.argument("props", nargs=-1, type=options.PATH, metavar="[PROPS...]")
@click.option(
    "--data",
    required=True,
    metavar="DATA",
    help="The objects: a data set (voc:DIR and so on), or a proposals file, whose boxes are then the objects.",
)
@options.split
@click.option(
    "--boxes",
    default="10,50,100,200,500,1000,2000",
    show_default=True,
    metavar="N,N",
    help="Numbers of boxes to keep per image.",
)
@click.option(
    "--by",
    multiple=True,
    type=click.Choice(["class", "size", "iou"]),
    help="Print one more table, at the largest number of boxes: per class, per COCO size, or per IoU. Repeat for more.",
)
@click.option(
    "--plot",
    type=options.PATH,
    default=None,
    metavar="FILE",
    help="Plot recall against the number of boxes and against IoU: .png, .svg or .pdf.",
)
@click.option(
    "--board",
    is_flag=True,
    help="Print a leaderboard instead: PROPS and each --source, one line each. Sources run on all images, and the"
    " median time per image of one process is measured.",
)
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="NAME,KEY=VALUE,...",
    help="With --board: a proposal source with its options, e.g. selective-search,preset=quality. Repeat for more.",
)
@click.option("--markdown", is_flag=True, help="With --board: print the table in Markdown.")
@options.classes
@options.bad_boxes
@options.size_mismatch
@options.force
@options.as_json
@click.pass_obj
def command(
    console: Console,
    props: tuple[Path, ...],
    data: str,
    split: str | None,
    boxes: str,
    by: tuple[str, ...],
    plot: Path | None,
    board: bool,
    sources: tuple[str, ...],
    markdown: bool,
    classes: str | None,
    bad_boxes: str,
    size_mismatch: str,
    force: bool,
    as_json: bool,
) -> None:
    """Measure how well the boxes of PROPS cover the objects, for several numbers of boxes kept. Several files are shown
    side by side.

    \b
    kept          mean number of boxes per image, at most the number in the first column
    recall 0.5    fraction of objects that a box covers with IoU 0.5 or more; likewise recall 0.7
    AR COCO       average recall: mean of the recall at IoU 0.5, 0.55, ..., 0.95
    AR Hosang     twice the area under the recall between IoU 0.5 and 1
    ABO           average best overlap: best IoU of each object, averaged over all objects
    MABO          the same, averaged per class first and then over the classes
    ceiling       the mAP of a perfect classifier of these boxes, without refining them (IoU 0.5)

    \b
    Only with --board, at 1,000 boxes per image:
    recall small  recall at IoU 0.5 of objects of less than 32 x 32 pixels; medium: less than 96 x 96; large: others
    oracle mAP    the ceiling
    ms per image  median time of the source, without decoding the image

    \b
    frcnn recall props.h5 --data voc:VOCdevkit/VOC2007 --split test
    frcnn recall a.h5 b.h5 --data voc:my-data --boxes 100,2000 --by class --by size --plot recall.png
    frcnn recall ours.h5 --data theirs.h5
    frcnn recall --board --source selective-search --source selective-search,preset=quality --data voc:my-data
    """
    if not board and (sources or markdown):
        raise click.UsageError("--source and --markdown belong to --board.")
    if not props and not sources:
        raise click.UsageError("Name at least one proposals file" + (", or a --source." if board else "."))
    if board:
        if data.endswith(".h5") or plot is not None or by:
            raise click.UsageError("--board needs a data set, and cannot be combined with --plot or --by.")
        _board(console, props, sources, data, split, classes, bad_boxes, size_mismatch, markdown, as_json)
        return
    counts = _parse_counts(boxes)
    if plot is not None:
        arguments.check_output(plot, force, (".png", ".svg", ".pdf"), *props)
    if data.endswith(".h5") and (split or classes or "class" in by):
        raise click.UsageError("--split, --classes and --by class need a data set: a proposals file has no classes.")

    objects = Objects.read(data, split, bad_boxes, size_mismatch, classes, props[0])
    found, advised = {}, {}
    for name, path in zip(_names(props), props, strict=True):
        found[name], advised[name] = objects.coverage(path, counts)
        for advice in advised[name]:
            console.note(str(advice) if len(props) == 1 else f"{path}: {advice}")
    if plot is not None:
        from frcnn_cli.report.recall import plot_recall

        plot_recall(found, plot, objects.title)
        console.note(f"the plot is in {plot}")
    if as_json:
        files = [
            coverage_as_json(path, c, objects) | {"advice": [str(advice) for advice in some]}
            for path, c, some in zip(props, found.values(), advised.values(), strict=True)
        ]
        console.json({"files": files})
    else:
        what = str(props[0]) if len(props) == 1 else f"{len(props)} files"
        print_coverage(console, found, objects, f"{what} on {objects.title}, {objects.images} images", by)


def _board(
    console: Console,
    props: tuple[Path, ...],
    sources: tuple[str, ...],
    data: str,
    split: str | None,
    classes: str | None,
    bad_boxes: str,
    size_mismatch: str,
    markdown: bool,
    as_json: bool,
) -> None:
    from frcnn_cli.cli.common.board import HEADS, board_as_json, board_as_markdown, board_rows, make_board

    covered = arguments.images_in(props[0]) if props else None
    dataset = arguments.dataset(data, split, bad_boxes, classes, covered, size_mismatch)
    places = make_board(console, dataset, props, sources, bad_boxes)
    if as_json:
        console.json({"data": dataset.title, "images": len(dataset), "board": board_as_json(places)})
    elif markdown:
        console.result(board_as_markdown(places))
    else:
        console.table(HEADS, board_rows(places), title=f"{dataset.title}, {len(dataset)} images")


def _parse_counts(boxes: str) -> list[int]:
    try:
        counts = sorted({int(text) for text in boxes.split(",")})
        if counts[0] < 1:
            raise ValueError
    except ValueError:
        raise click.BadParameter(f"{boxes!r} is not a list of numbers from 1", param_hint="--boxes") from None
    return counts


def _names(props: tuple[Path, ...]) -> list[str]:
    """The names of the files, with as many folders as are needed to distinguish them."""
    for parts in range(1, 10):
        names = ["/".join(path.parts[-parts:]) for path in props]
        if len(set(names)) == len(names):
            return names
    raise click.UsageError(f"{next(p for p in props if props.count(p) > 1)} is named twice.")
