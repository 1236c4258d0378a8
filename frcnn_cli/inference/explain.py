"""Every box followed from its proposal to its detection, through the files of the stages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from frcnn_cli.core.annotations import Detections, GroundTruth
from frcnn_cli.core.errors import MismatchError
from frcnn_cli.core.image import ImageRecord
from frcnn_cli.detections.nms import trace_selection
from frcnn_cli.evaluation.explain import Evidence, Explanation, explain
from frcnn_cli.evaluation.voc import Result
from frcnn_cli.inference.nms import recorded_recipe, recorded_thresholds
from frcnn_cli.store.join import join
from frcnn_cli.store.schema import DETECTIONS, PROPOSALS, SCORES
from frcnn_cli.store.stage import open_stage


def explain_files(
    dets: Path,
    scores: Path,
    props: Path,
    images: Mapping[str, ImageRecord],
    detections: Mapping[str, Detections],
    ground_truth: Mapping[str, GroundTruth],
    result: Result,
) -> Explanation:
    """Why objects were missed and detections are false.

    Args:
        dets, scores, props: detections file, the scores file that it was computed from, and the proposals file that
            the scores were computed from.
        images: the records in `dets` of the images of `detections` and `ground_truth`, by key of the data set.
        result: the evaluation of `detections`.

    Raises:
        MismatchError: `dets` was not computed from `scores`, or `scores` not from `props`.
    """
    evidence = {}
    with open_stage(dets, DETECTIONS) as d, open_stage(scores, SCORES) as s, open_stage(props, PROPOSALS) as p:
        if s.classes != d.classes:
            raise MismatchError(
                f"{scores} and {dets} have different classes", "Name the scores that the detections were computed from"
            )
        thresholds, min_scores = recorded_thresholds(d)
        recipe = recorded_recipe(s)
        count = recipe.detection.proposals or None if recipe is not None else None
        minimum = np.maximum(thresholds.min_score, np.zeros(len(d.classes)) if min_scores is None else min_scores)
        rows_in = [join(list(images.values()), file.images, str(dets), str(file.path)) for file in (s, p)]
        for key, in_scores, in_props in zip(images, *rows_in, strict=True):
            scored, proposals = s[in_scores], p[in_props]["boxes"][:count]
            if len(proposals) != len(scored["boxes"]):
                raise MismatchError(f"{props} and {scores} hold different boxes", "Name the proposals that were scored")
            chosen = trace_selection(scored["probabilities"], scored["boxes"], thresholds, min_scores)
            if int(chosen.final.sum()) != len(detections[key]):
                raise MismatchError(f"{dets} was not computed from {scores}", "Compute it again with frcnn nms")
            evidence[key] = Evidence(proposals, scored["probabilities"], scored["boxes"], minimum, *chosen)
    return explain(result.matches, detections, ground_truth, evidence, result.iou_threshold, result.metric)
