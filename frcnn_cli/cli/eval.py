"""frcnn eval: detections + ground truth -> average precision."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from frcnn_cli.cli.common import arguments, options
from frcnn_cli.cli.common.command import Command
from frcnn_cli.cli.common.console import Console
from frcnn_cli.cli.common.evaluation import evaluation_as_json, print_evaluation
from frcnn_cli.core.errors import UsageError

if TYPE_CHECKING:
    from frcnn_cli.evaluation.coco import CocoRules


@click.command(cls=Command)
@click.argument("dets", type=options.PATH)
@options.data
@options.split
@options.metric
@options.iou
@click.option("--coco", is_flag=True, help="Also print COCO's twelve numbers, over IoU 0.5 to 0.95.")
@click.option("--per-class", is_flag=True, help="With --coco: also for each class.")
@click.option(
    "--coco-iou", metavar="T,T", help="With --coco: other IoU thresholds, e.g. 0.5,0.75. Default: 0.5,0.55,...,0.95."
)
@click.option(
    "--coco-areas",
    metavar="NAME:LOW:HIGH,...",
    help="With --coco: other ranges of object areas in square pixels, e.g. tiny:0:256,rest:256:1e10."
    " Default: s:0:1024,m:1024:9216,l:9216:1e10.",
)
@click.option(
    "--coco-detections",
    metavar="N,N",
    help="With --coco: other maximum numbers of detections per image and class. Default: 1,10,100.",
)
@click.option(
    "--diagnose",
    is_flag=True,
    help="Also print which classes are taken for which, the best score threshold of each class by F1, and whether"
    " scores are probabilities (calibration).",
)
@click.option(
    "--score",
    type=options.Number(0),
    default=0.5,
    show_default=True,
    help="With --diagnose: lowest score of a detection that counts in the table of confusions.",
)
@click.option("--ci", is_flag=True, help="Also print the 95% bootstrap interval of mAP, over images.")
@click.option(
    "--explain",
    is_flag=True,
    help="Attribute every missed object to the step that lost it, and every false detection to its cause; list what"
    " other thresholds would bring back; needs --scores and --props.",
)
@click.option("--scores", type=options.PATH, metavar="FILE", help="With --explain: the scores that DETS came from.")
@click.option("--props", type=options.PATH, metavar="FILE", help="With --explain: the proposals that were scored.")
@click.option(
    "--curves",
    type=options.PATH,
    metavar="FILE",
    help="Write the precision-recall curves: a table as .csv, or a plot as .png, .svg or .pdf.",
)
@options.classes
@options.bad_boxes
@options.size_mismatch
@options.force
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
    per_class: bool,
    coco_iou: str | None,
    coco_areas: str | None,
    coco_detections: str | None,
    diagnose: bool,
    score: float,
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

    DETS is a detections file, a folder with result files of PASCAL VOC's devkit (comp4_det_SPLIT_CLASS.txt), or a
    .json of COCO results. For result files, the image files of a COCO data set are not needed: --data
    coco:instances_val.json is enough.

    \b
    frcnn eval dets.h5 --data voc:VOCdevkit/VOC2007 --split test
    frcnn eval dets.h5 --data voc:VOCdevkit/VOC2007 --split test --metric voc07 --ci --curves pr.png
    frcnn eval dets.h5 --data coco:instances_val.json:val2017 --coco --per-class --json
    frcnn eval results.json --data coco:instances_val.json --coco
    frcnn eval dets.h5 --data voc:my-data --diagnose --score 0.3
    frcnn eval dets.h5 --data voc:my-data --explain --scores scores.h5 --props props-test.h5
    """
    _check(dets, explain, scores, props, classes)
    if not coco and (per_class or coco_iou or coco_areas or coco_detections):
        raise click.UsageError("--per-class, --coco-iou, --coco-areas and --coco-detections belong to --coco.")
    if curves is not None:
        inputs = [path for path in (dets, scores, props) if path is not None]
        arguments.check_output(curves, force, (".csv", ".png", ".svg", ".pdf"), *inputs)

    from frcnn_cli.evaluation.voc import evaluate

    rules = _rules(coco_iou, coco_areas, coco_detections) if coco else None
    paired = arguments.detections(dets, data, split, bad_boxes, size_mismatch, classes)
    found, truth = paired.detections, paired.dataset.truth
    result = evaluate(found, paired.dataset, iou_threshold=iou, metric=metric)
    more: dict[str, Any] = {}
    if ci:
        from frcnn_cli.evaluation.bootstrap import confidence_interval

        more["interval"] = confidence_interval(result, console)
    if coco:
        from frcnn_cli.evaluation.coco import evaluate_coco

        more["coco"] = evaluate_coco(found, truth, paired.dataset.classes, rules)
        more["per_class"] = per_class
    if diagnose:
        from frcnn_cli.evaluation.diagnosis import best_cuts, calibration, confusion_matrix

        more["confusion"] = confusion_matrix(found, truth, len(result.classes), iou, score)
        more["cuts"] = best_cuts(result)
        more["calibration"] = calibration(result.matches)
        if more["calibration"] is None:
            console.warn("some scores are not between 0 and 1, so they cannot be probabilities: no calibration")
    if explain and scores is not None and props is not None:
        from frcnn_cli.inference.explain import explain_files
        from frcnn_cli.inference.what_if import what_if

        more["explanation"] = explain_files(dets, scores, props, paired.images, found, truth, result)
        more["what_if"] = what_if(dets, scores, props, paired.images, truth, result, console)
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


def _rules(ious: str | None, areas: str | None, detections: str | None) -> CocoRules:
    """COCO's rules, with the values that options state."""
    from frcnn_cli.evaluation.coco import CocoRules

    given: dict[str, Any] = {}
    try:
        if ious is not None:
            given["iou_thresholds"] = tuple(float(text) for text in ious.split(","))
        if areas is not None:
            parts = [text.split(":") for text in areas.split(",")]
            given["areas"] = {name: (float(low), float(high)) for name, low, high in parts}
        if detections is not None:
            given["max_detections"] = tuple(int(text) for text in detections.split(","))
        return CocoRules(**given)
    except ValueError as error:
        raise UsageError(f"the options of --coco cannot be used ({error})", "See frcnn eval --help") from None
