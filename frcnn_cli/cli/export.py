"""frcnn export: proposals, detections or vectors -> files of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from frcnn_cli.cli.common import arguments, options
from frcnn_cli.cli.common.command import Command
from frcnn_cli.cli.common.console import Console
from frcnn_cli.core.errors import FileFormatError, OutputExistsError, UsageError

if TYPE_CHECKING:
    from frcnn_cli.store.reader import StageFile


@click.command(cls=Command)
@click.argument("file", type=options.PATH)
@click.option(
    "--format",
    "form",
    required=True,
    type=click.Choice(["detectron", "detectron2", "mmdet", "mat", "coco", "csv", "voc", "parquet"]),
    help="For proposals: detectron, detectron2 or mmdet (pickles), mat (cell arrays, as selective search was"
    " published), coco (results), or csv. For detections: coco, csv, or voc (a folder with a"
    " comp4_det_SPLIT_CLASS.txt per class, as PASCAL VOC's devkit reads them). For proposals, detections and"
    " vectors: parquet, a table with a row per image and lists in its columns.",
)
@click.option("-o", "--output", type=options.PATH, required=True, metavar="FILE", help="File or folder to write.")
@click.option(
    "--data",
    metavar="DATA",
    help="For COCO results of detections: the data set whose image and class IDs are written. Without it, images are"
    " numbered from 1, and each result also states its file_name.",
)
@click.option(
    "--split",
    metavar="NAME",
    help="With --format voc, the split in the names of the files (default: test); with --data, its split (default: the"
    " one whose images are all in FILE).",
)
@options.force
@click.pass_obj
def command(
    console: Console, file: Path, form: str, output: Path, data: str | None, split: str | None, force: bool
) -> None:
    """Write the proposals, detections or vectors in FILE for another tool.

    frcnn import reads exported proposals and gives the same boxes (COCO results cannot express images without boxes),
    and frcnn eval reads detections. detectron2 and COCO require scores: boxes without scores get decreasing ones, by
    rank.

    \b
    frcnn export props.h5 --format detectron2 -o props.pkl
    frcnn export props.h5 --format mat -o boxes.mat
    frcnn export props.h5 --format detectron -o props.pkl
    frcnn export dets.h5 --format voc -o results/ --split test
    frcnn export dets.h5 --format coco -o results.json --data coco:instances_val.json:val2017
    frcnn export 'vectors-*.h5' --format parquet -o vectors.parquet
    """
    from frcnn_cli.store.schema import DETECTIONS, PROPOSALS
    from frcnn_cli.store.stage import open_stage

    arguments.must_differ(output, file)
    if output.exists() and not force:
        raise OutputExistsError(output)
    with open_stage(file) as opened:
        if form == "parquet":
            from frcnn_cli.store.parquet import export_parquet

            count = export_parquet(opened, output, console)
        elif opened.format is PROPOSALS and form != "voc":
            from frcnn_cli.proposals.exporting import export_boxes

            count = export_boxes(opened, output, form)
        elif opened.format is DETECTIONS:
            count = _export_detections(opened, form, output, data, split)
        elif form == "voc":
            raise UsageError(f"{file} holds {opened.format.name}, not detections", "Name a file that frcnn nms wrote")
        else:
            raise FileFormatError(f"{file} holds {opened.format.name}", "Name a file of proposals or detections")
        console.note(f"{output}: {len(opened)} images, {count} boxes")


def _export_detections(file: StageFile, form: str, output: Path, data: str | None, split: str | None) -> int:
    from frcnn_cli.data.pairing import coco_ids
    from frcnn_cli.evaluation.exporting import export_coco_results, export_csv, export_voc_results

    if form == "voc":
        return export_voc_results(file, output, split or "test")
    if form == "csv":
        return export_csv(file, output)
    if form != "coco":
        raise UsageError(f"detections cannot be written as {form}", "Use --format voc, coco or csv")
    if data is not None:
        dataset = arguments.dataset(data, split, "fix", covered_by=file.images)
        if dataset.image_ids:
            return export_coco_results(file, output, *coco_ids(dataset, file))
    return export_coco_results(file, output)
