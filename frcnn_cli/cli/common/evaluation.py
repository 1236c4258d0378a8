"""The output of frcnn eval: tables, or one JSON value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from frcnn_cli.cli.common.console import Console, json_number, three_digits

if TYPE_CHECKING:
    from frcnn_cli.evaluation.bootstrap import Interval
    from frcnn_cli.evaluation.explain import Explanation
    from frcnn_cli.evaluation.voc import Result


def print_evaluation(
    console: Console,
    title: str,
    result: Result,
    interval: Interval | None = None,
    coco: dict[str, float] | None = None,
    explanation: Explanation | None = None,
) -> None:
    """Prints the table of AP per class, and whatever else was computed."""
    rows = [
        (c.name, three_digits(c.ap), three_digits(c.recall), str(c.objects), str(c.detections)) for c in result.classes
    ]
    objects, detections = (sum(getattr(c, name) for c in result.classes) for name in ("objects", "detections"))
    rows.append(("mean", three_digits(result.mean_ap), "", str(objects), str(detections)))
    rule = "area under the curve" if result.metric == "area" else "VOC 2007, 11 points"
    console.table(
        ("class", "AP", "recall", "objects", "detections"),
        rows,
        title=f"{title}, IoU {result.iou_threshold:g}, {rule}",
    )
    if interval is not None:
        bounds = f"{three_digits(interval.low)}–{three_digits(interval.high)}"
        console.result(f"mAP {three_digits(result.mean_ap)} (95% bootstrap interval {bounds})")
    if coco is not None:
        console.table(("COCO", ""), [(name, three_digits(value)) for name, value in coco.items()])
    if explanation is not None:
        _print_explanation(console, explanation, [c.name for c in result.classes])


def evaluation_as_json(
    images: int,
    result: Result,
    interval: Interval | None = None,
    coco: dict[str, float] | None = None,
    explanation: Explanation | None = None,
) -> dict[str, Any]:
    """The evaluation as one JSON value."""
    values: dict[str, Any] = {
        "map": json_number(result.mean_ap),
        "metric": result.metric,
        "iou": result.iou_threshold,
        "images": images,
        "classes": {
            c.name: {
                "ap": json_number(c.ap),
                "objects": c.objects,
                "detections": c.detections,
                "recall": json_number(c.recall),
            }
            for c in result.classes
        },
    }
    if interval is not None:
        values["interval"] = [json_number(interval.low), json_number(interval.high)]
    if coco is not None:
        values["coco"] = {name: json_number(value) for name, value in coco.items()}
    if explanation is not None:
        values["explanation"] = _explanation_as_json(explanation, [c.name for c in result.classes])
    return values


def _print_explanation(console: Console, explanation: Explanation, classes: Sequence[str]) -> None:
    from frcnn_cli.evaluation.explain import FALSE, MISSED

    missed, false = int(explanation.missed.sum()), int(explanation.false.sum())
    objects = missed + int(explanation.found.sum())
    for title, kinds, table, cost in (
        (f"{missed} of {objects} objects missed, by reason", MISSED, explanation.missed, explanation.missed_cost),
        (f"{false} false detections, by cause", FALSE, explanation.false, explanation.false_cost),
    ):
        rows = [
            (kind, *map(str, column), str(sum(column)), f"{gain:+.3f}")
            for kind, column, gain in zip(kinds, table.T.tolist(), cost, strict=True)
        ]
        rows.append(("all", *map(str, table.sum(axis=1).tolist()), str(int(table.sum())), ""))
        console.table(("", *classes, "all", "mAP gained"), rows, title=title)


def _explanation_as_json(explanation: Explanation, classes: Sequence[str]) -> dict[str, Any]:
    from frcnn_cli.evaluation.explain import FALSE, MISSED

    return {
        name: {
            kind: {"count": dict(zip(classes, column, strict=True)), "map_without": json_number(gain)}
            for kind, column, gain in zip(kinds, table.T.tolist(), cost, strict=True)
        }
        for name, kinds, table, cost in (
            ("missed", MISSED, explanation.missed, explanation.missed_cost),
            ("false", FALSE, explanation.false, explanation.false_cost),
        )
    }
