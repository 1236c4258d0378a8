"""The output of frcnn eval: tables, or one JSON value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from frcnn_cli.cli.common.console import Console, json_number, three_digits

if TYPE_CHECKING:
    from frcnn_cli.evaluation.bootstrap import Interval
    from frcnn_cli.evaluation.coco import CocoResult
    from frcnn_cli.evaluation.diagnosis import Calibration, ConfusionMatrix, Cut
    from frcnn_cli.evaluation.explain import Explanation
    from frcnn_cli.evaluation.voc import Result
    from frcnn_cli.inference.what_if import WhatIf


def print_evaluation(
    console: Console,
    title: str,
    result: Result,
    interval: Interval | None = None,
    coco: CocoResult | None = None,
    per_class: bool = False,
    confusion: ConfusionMatrix | None = None,
    cuts: Sequence[Cut] = (),
    calibration: Calibration | None = None,
    explanation: Explanation | None = None,
    what_if: WhatIf | None = None,
) -> None:
    """Prints the table of AP per class, and whatever else was computed."""
    names = [c.name for c in result.classes]
    rows: list[tuple[str, ...]] = [
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
        _print_coco(console, coco, per_class)
    if confusion is not None:
        _print_confusion(console, confusion, names)
    if cuts:
        rows = [(c.name, *map(three_digits, (c.score, c.f1, c.precision, c.recall))) for c in cuts]
        console.table(("class", "score", "F1", "precision", "recall"), rows, title="best score threshold by F1")
    if calibration is not None:
        rows = [
            (f"{low:.1f} to {high:.1f}", str(count), three_digits(score), three_digits(precision))
            for low, high, count, score, precision in zip(
                calibration.edges, calibration.edges[1:], calibration.counts, calibration.scores, calibration.precision,
                strict=False,
            )
        ]  # fmt: skip
        heads = ("score", "detections", "mean score", "precision")
        console.table(heads, rows, title=f"calibration: expected error {three_digits(calibration.error)}")
    if explanation is not None:
        _print_explanation(console, explanation, names)
    if what_if is not None:
        _print_what_if(console, what_if)


def evaluation_as_json(
    images: int,
    result: Result,
    interval: Interval | None = None,
    coco: CocoResult | None = None,
    per_class: bool = False,
    confusion: ConfusionMatrix | None = None,
    cuts: Sequence[Cut] = (),
    calibration: Calibration | None = None,
    explanation: Explanation | None = None,
    what_if: WhatIf | None = None,
) -> dict[str, Any]:
    """The evaluation as one JSON value."""
    names = [c.name for c in result.classes]
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
        values["coco"] = _numbers(coco.numbers)
        if per_class:
            values["coco_per_class"] = {name: _numbers(coco.of_class(name)) for name in names}
    if confusion is not None:
        values["confusion"] = {
            "iou": confusion.iou_threshold,
            "score": confusion.min_score,
            "classes": [*names, "background"],
            "counts": confusion.counts.tolist(),
        }
    if cuts:
        values["best_scores"] = {
            c.name: {name: json_number(value) for name, value in asdict(c).items() if name != "name"} for c in cuts
        }
    if calibration is not None:
        values["calibration"] = {
            "error": json_number(calibration.error),
            "edges": calibration.edges.tolist(),
            "counts": calibration.counts.tolist(),
            "scores": [json_number(value) for value in calibration.scores],
            "precision": [json_number(value) for value in calibration.precision],
        }
    if explanation is not None:
        values["explanation"] = _explanation_as_json(explanation, names)
    if what_if is not None:
        values["what_if"] = asdict(what_if)
    return values


def _numbers(values: dict[str, float]) -> dict[str, float | None]:
    return {name: json_number(value) for name, value in values.items()}


def _print_coco(console: Console, coco: CocoResult, per_class: bool) -> None:
    numbers = coco.numbers
    if not per_class:
        console.table(("COCO", ""), [(name, three_digits(value)) for name, value in numbers.items()])
        return
    rows = [(name, *map(three_digits, coco.of_class(name).values())) for name in coco.classes]
    rows.append(("all", *map(three_digits, numbers.values())))
    console.table(("COCO", *numbers), rows)


def _print_confusion(console: Console, confusion: ConfusionMatrix, classes: Sequence[str]) -> None:
    """The whole matrix if it fits, otherwise the most frequent confusions."""
    title = (
        f"objects (rows) by what they were detected as, IoU {confusion.iou_threshold:g}, score {confusion.min_score:g}"
    )
    counts = confusion.counts
    if len(classes) <= 12:
        rows = [(name, *map(str, row)) for name, row in zip([*classes, "background"], counts.tolist(), strict=True)]
        rows[-1] = (*rows[-1][:-1], "")
        console.table(("", *classes, "not detected"), rows, title=title)
        return
    names = [*classes, "background"]
    pairs = [(int(counts[i, j]), i, j) for i in range(len(names)) for j in range(len(names)) if i != j and counts[i, j]]
    rows = [
        (names[i], names[j] if j < len(classes) else "not detected", str(n)) for n, i, j in sorted(pairs)[::-1][:20]
    ]
    console.table(("object", "detected as", "count"), rows, title=f"{title}: the 20 most frequent errors", left=2)


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


def _print_what_if(console: Console, what_if: WhatIf) -> None:
    rows = [
        (c.setting, str(c.recovered), str(c.lost), f"{c.false:+d}", three_digits(c.mean_ap)) for c in what_if.changes
    ]
    heads = ("with frcnn nms", "objects found", "lost", "false detections", "mAP")
    console.table(heads, rows, title="what other thresholds would change")
    console.result(
        f"more boxes: of the missed objects that no scored proposal covers, {what_if.more_boxes} are covered by"
        f" proposals that were not scored, and {what_if.uncovered} by none in the file"
    )


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
