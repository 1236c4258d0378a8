"""frcnn eval: dets.h5 + ground truth -> average precision."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from frcnn_cli.cli import options, resolve
from frcnn_cli.cli.command import Command
from frcnn_cli.cli.display import Display, number, share
from frcnn_cli.cli.eval_curves import may_write, write_curves
from frcnn_cli.cli.eval_explain import explained, explanation_as_json, show_explanation

if TYPE_CHECKING:
    from frcnn_cli.evaluation.bootstrap import Interval
    from frcnn_cli.evaluation.explain import Explanation
    from frcnn_cli.evaluation.voc import Result


@click.command(cls=Command)
@click.argument("dets", type=options.PATH)
@options.data
@click.option("--split", default="test", show_default=True, metavar="NAME", help="Split of the data set.")
@options.metric
@click.option(
    "--iou",
    default=0.5,
    show_default=True,
    type=options.Number(0, 1, min_open=True),
    help="Least overlap of a correct detection.",
)
@click.option("--coco", is_flag=True, help="Also COCO's twelve numbers, over IoU 0.5 to 0.95.")
@click.option("--ci", is_flag=True, help="Also how far mAP may be off: 95% interval, bootstrap over images.")
@click.option(
    "--explain", is_flag=True, help="Also why each object was missed and what each false detection is; wants --scores."
)
@click.option("--scores", type=options.PATH, metavar="FILE", help="What DETS was made from, for --explain.")
@click.option("--props", type=options.PATH, metavar="FILE", help="What SCORES was made from, for --explain.")
@click.option("--curves", type=options.PATH, metavar="FILE", help="Precision-recall curves: .csv, .png, .svg or .pdf.")
@options.classes
@options.bad_boxes
@click.option("--force", is_flag=True, help="Replace the file of --curves if it exists.")
@options.as_json
@click.pass_obj
def command(
    display: Display,
    dets: Path,
    data: str,
    split: str,
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
    force: bool,
    as_json: bool,
) -> None:
    """Average precision of DETS, as PASCAL VOC counts it, and as COCO does.

    DETS is a detections file, a folder of the devkit's results (comp4_det_test_cat.txt and so on) or a .json of COCO's.

    \b
    frcnn eval dets.h5 --data voc:VOCdevkit/VOC2007 --split test
    frcnn eval dets.h5 --data voc:VOCdevkit/VOC2007 --split test --metric voc07 --ci --curves pr.png
    frcnn eval dets.h5 --data coco:instances_val.json:val2017 --coco --json
    frcnn eval dets.h5 --data voc:my-data --explain --scores scores.h5 --props props-test.h5
    """
    from frcnn_cli.data.spec import named
    from frcnn_cli.evaluation.voc import evaluate

    if explain and dets.suffix != ".h5":
        raise click.UsageError("--explain follows boxes through our files: DETS must be what frcnn nms wrote.")
    if explain and (scores is None or props is None):
        raise click.UsageError("--explain wants --scores FILE and --props FILE, which DETS was made from.")
    if explain and classes is not None:
        raise click.UsageError("--explain looks at what boxes are confused with: leave --classes out.")
    if not explain and (scores is not None or props is not None):
        raise click.UsageError("--scores and --props go with --explain.")
    if curves is not None:
        may_write(curves, force, *(path for path in (dets, scores, props) if path is not None))
    dataset, found, images = resolve.detections(dets, data, split, bad_boxes, classes)
    wanted = {sample.ref.key: sample.truth for sample in dataset.samples}
    result = evaluate(found, wanted, dataset.classes, iou, metric)
    told: dict[str, Any] = {"result": result}
    if ci:
        told["interval"] = _interval(display, result)
    if coco:
        from frcnn_cli.evaluation.coco import coco_numbers

        told["coco"] = coco_numbers(found, wanted, dataset.classes)
    if explain and scores is not None and props is not None:
        told["explanation"] = explained(dets, scores, props, images, found, wanted, result)
    if curves is not None:
        write_curves(curves, result, named(data, split))
        display.note(f"the curves are in {curves}")
    if as_json:
        display.json(_as_json(len(wanted), **told))
    else:
        _show(display, f"{named(data, split)}, {len(wanted)} images", **told)


def _interval(display: Display, result: Result) -> Any:
    from frcnn_cli.evaluation import bootstrap

    drawn = bootstrap.draws(len(result.matches.keys))
    with display.progress("bootstrap", len(drawn), "draws") as bar:
        return bootstrap.interval(bootstrap.mean_aps(result.matches, result.metric, drawn, bar.advance))


def _show(
    display: Display,
    title: str,
    result: Result,
    interval: Interval | None = None,
    coco: dict[str, float] | None = None,
    explanation: Explanation | None = None,
) -> None:
    columns = [(c.name, c.ap, c.recall, str(c.objects), str(c.detections)) for c in result.classes]
    rows = [(name, share(ap), share(recall), *counts) for name, ap, recall, *counts in columns]
    objects, detections = (sum(getattr(c, name) for c in result.classes) for name in ("objects", "detections"))
    rows.append(("mean", share(result.mean_ap), "", str(objects), str(detections)))
    rule = "area under the curve" if result.metric == "area" else "VOC 2007, 11 points"
    display.table(
        ("class", "AP", "recall", "objects", "detections"),
        rows,
        title=f"{title}, IoU {result.iou_threshold:g}, {rule}",
    )
    if interval is not None:
        display.result(
            f"mAP {share(result.mean_ap)}, 95% of draws from {share(interval.low)} to {share(interval.high)}"
        )
    if coco is not None:
        display.table(("COCO", ""), [(name, share(value)) for name, value in coco.items()])
    if explanation is not None:
        show_explanation(display, explanation, [c.name for c in result.classes])


def _as_json(
    images: int,
    result: Result,
    interval: Interval | None = None,
    coco: dict[str, float] | None = None,
    explanation: Explanation | None = None,
) -> dict[str, Any]:
    told: dict[str, Any] = {
        "map": number(result.mean_ap),
        "metric": result.metric,
        "iou": result.iou_threshold,
        "images": images,
        "classes": {
            c.name: {
                "ap": number(c.ap),
                "objects": c.objects,
                "detections": c.detections,
                "recall": number(c.recall),
            }
            for c in result.classes
        },
    }
    if interval is not None:
        told["interval"] = [number(interval.low), number(interval.high)]
    if coco is not None:
        told["coco"] = {name: number(value) for name, value in coco.items()}
    if explanation is not None:
        told["explanation"] = explanation_as_json(explanation, [c.name for c in result.classes])
    return told
