"""frcnn eval: detections + ground truth -> average precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from frcnn_cli.cli.common import arguments, options
from frcnn_cli.cli.common.command import Command
from frcnn_cli.cli.common.console import Console
from frcnn_cli.cli.common.evaluation import evaluation_as_json, print_evaluation


@click.command(cls=Command)
@click.argument("dets", type=options.PATH)
@options.data
@options.split
@options.metric
@options.iou
@click.option("--coco", is_flag=True, help="Also print COCO's twelve numbers, over IoU 0.5 to 0.95.")
@click.option("--ci", is_flag=True, help="Also print the 95% bootstrap interval of mAP, over images.")
@click.option(
    "--explain",
    is_flag=True,
    help="Also print why objects were missed and what false detections are; needs --scores and --props.",
)
@click.option("--scores", type=options.PATH, metavar="FILE", help="Scores file that DETS was computed from.")
@click.option("--props", type=options.PATH, metavar="FILE", help="Proposals file that the scores were computed from.")
@click.option(
    "--curves", type=options.PATH, metavar="FILE", help="Write precision-recall curves: .csv, .png, .svg or .pdf."
)
@options.classes
@options.bad_boxes
@options.size_mismatch
@click.option("--force", is_flag=True, help="Replace the file of --curves if it exists.")
@options.as_json
@click.pass_obj
def command(
    console: Console,
    dets: Path,
    data: str,
    split: str | None,
    metric: Any,
    iou: float,
    coco: bool,
    ci: bool,
    explain: bool,
    scores: Path | None,
    props: Path | None,
    curves: Path | None,
    classes: str | None,
    bad_boxes: str,
    size_mismatch: str,
    force: bool,
    as_json: bool,
) -> None:
    """Compute the average precision of DETS by the rules of PASCAL VOC, and optionally of COCO.

    DETS is a detections file, a folder with the devkit's result files (comp4_det_test_cat.txt and so on), or a .json of
    COCO results.

    \b
    frcnn eval dets.h5 --data voc:VOCdevkit/VOC2007 --split test
    frcnn eval dets.h5 --data voc:VOCdevkit/VOC2007 --split test --metric voc07 --ci --curves pr.png
    frcnn eval dets.h5 --data coco:instances_val.json:val2017 --coco --json
    frcnn eval dets.h5 --data voc:my-data --explain --scores scores.h5 --props props-test.h5
    """
    _check(dets, explain, scores, props, classes)
    if curves is not None:
        inputs = [path for path in (dets, scores, props) if path is not None]
        arguments.check_output(curves, force, (".csv", ".png", ".svg", ".pdf"), *inputs)

    from frcnn_cli.evaluation.voc import evaluate

    paired = arguments.detections(dets, data, split, bad_boxes, size_mismatch, classes)
    result = evaluate(paired.detections, paired.dataset, iou_threshold=iou, metric=metric)
    more: dict[str, Any] = {}
    if ci:
        from frcnn_cli.evaluation.bootstrap import confidence_interval

        more["interval"] = confidence_interval(result, console)
    if coco:
        from frcnn_cli.evaluation.coco import coco_numbers

        more["coco"] = coco_numbers(paired.detections, paired.dataset.truth, paired.dataset.classes)
    if explain and scores is not None and props is not None:
        from frcnn_cli.inference.explain import explain_files

        found, truth = paired.detections, paired.dataset.truth
        more["explanation"] = explain_files(dets, scores, props, paired.images, found, truth, result)
    if curves is not None:
        from frcnn_cli.report.precision_recall import write_curves

        write_curves(curves, result, paired.dataset.title)
        console.note(f"the curves are in {curves}")
    if as_json:
        console.json(evaluation_as_json(len(paired.dataset), result, **more))
    else:
        print_evaluation(console, f"{paired.dataset.title}, {len(paired.dataset)} images", result, **more)


def _check(dets: Path, explain: bool, scores: Path | None, props: Path | None, classes: str | None) -> None:
    if explain and dets.suffix != ".h5":
        raise click.UsageError("--explain follows boxes through the files of the stages: DETS must be from frcnn nms.")
    if explain and (scores is None or props is None):
        raise click.UsageError("--explain needs --scores FILE and --props FILE, which DETS was computed from.")
    if explain and classes is not None:
        raise click.UsageError("--explain needs all classes, to find confusions: remove --classes.")
    if not explain and (scores is not None or props is not None):
        raise click.UsageError("--scores and --props belong to --explain.")
