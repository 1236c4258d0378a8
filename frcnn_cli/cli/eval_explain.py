"""frcnn eval --explain: every box followed from its proposal to its detection, and what that tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frcnn_cli.cli import resolve
from frcnn_cli.cli.display import Display, number

if TYPE_CHECKING:
    from frcnn_cli.annotations import Detections, GroundTruth
    from frcnn_cli.evaluation.explain import Explanation
    from frcnn_cli.evaluation.voc import Result
    from frcnn_cli.image import ImageRecord


def explained(
    dets: Path,
    scores: Path,
    props: Path,
    images: Mapping[str, ImageRecord],
    found: Mapping[str, Detections],
    wanted: Mapping[str, GroundTruth],
    result: Result,
) -> Explanation:
    """
    Args:
        images: what DETS calls the images of `found` and `wanted`.

    Raises:
        MismatchError: DETS was not made from SCORES, or SCORES not from PROPS.
    """
    import numpy as np

    from frcnn_cli.detections.nms import select
    from frcnn_cli.errors import MismatchError
    from frcnn_cli.evaluation.explain import Evidence, explain
    from frcnn_cli.store.join import join
    from frcnn_cli.store.reader import StageFile
    from frcnn_cli.store.schema import DETECTIONS, PROPOSALS, SCORES

    evidence = {}
    with StageFile(dets, DETECTIONS) as d, StageFile(scores, SCORES) as s, StageFile(props, PROPOSALS) as p:
        if s.classes != d.classes:
            raise MismatchError(f"{scores} is of other classes than {dets}", "Name the scores that it was made from")
        thresholds, above = resolve.rule_of(d)
        recipe = resolve.recipe_of(s)
        most = recipe.detection.proposals or None if recipe is not None else None
        least = np.maximum(thresholds.min_score, above if above is not None else np.zeros(len(d.classes)))
        rows_in = [join(list(images.values()), file.images, str(dets), str(file.path)) for file in (s, p)]
        for key, in_scores, in_props in zip(images, *rows_in, strict=True):
            scored, proposals = s[in_scores], p[in_props]["boxes"][:most]
            if len(proposals) != len(scored["boxes"]):
                raise MismatchError(f"{props} holds other boxes than {scores}", "Name the proposals that were scored")
            chosen = select(scored["probabilities"], scored["boxes"], thresholds, above)
            if int(chosen.final.sum()) != len(found[key]):
                raise MismatchError(f"{dets} was not made from {scores}", "Make it anew with frcnn nms")
            evidence[key] = Evidence(proposals, scored["probabilities"], scored["boxes"], least, *chosen)
    return explain(result.matches, found, wanted, evidence, result.iou_threshold, result.metric)


def show_explanation(display: Display, explanation: Explanation, classes: Sequence[str]) -> None:
    from frcnn_cli.evaluation.explain import FALSE, MISSED

    missed, false = int(explanation.missed.sum()), int(explanation.false.sum())
    objects = missed + int(explanation.found.sum())
    for title, kinds, table, cost in (
        (f"{missed} of {objects} objects missed, by why", MISSED, explanation.missed, explanation.missed_cost),
        (f"{false} false detections, by what they stand on", FALSE, explanation.false, explanation.false_cost),
    ):
        rows = [
            (kind, *map(str, column), str(sum(column)), f"{gain:+.3f}")
            for kind, column, gain in zip(kinds, table.T.tolist(), cost, strict=True)
        ]
        rows.append(("all", *map(str, table.sum(axis=1).tolist()), str(int(table.sum())), ""))
        display.table(("", *classes, "all", "mAP without"), rows, title=title)


def explanation_as_json(explanation: Explanation, classes: Sequence[str]) -> dict[str, Any]:
    from frcnn_cli.evaluation.explain import FALSE, MISSED

    return {
        name: {
            kind: {"count": dict(zip(classes, column, strict=True)), "map_without": number(gain)}
            for kind, column, gain in zip(kinds, table.T.tolist(), cost, strict=True)
        }
        for name, kinds, table, cost in (
            ("missed", MISSED, explanation.missed, explanation.missed_cost),
            ("false", FALSE, explanation.false, explanation.false_cost),
        )
    }
