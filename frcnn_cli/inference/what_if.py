"""Which missed objects other thresholds would bring back, from the files of the stages, without running the network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from frcnn_cli.core.annotations import Detections, GroundTruth
from frcnn_cli.core.boxes import best_overlap
from frcnn_cli.core.image import ImageRecord
from frcnn_cli.core.progress import SILENT, Progress
from frcnn_cli.detections.nms import Thresholds, detections_from_scores
from frcnn_cli.evaluation.matching import CORRECT, WRONG, Matches
from frcnn_cli.evaluation.voc import Result, evaluate
from frcnn_cli.inference.nms import recorded_recipe, recorded_thresholds
from frcnn_cli.store.join import join
from frcnn_cli.store.schema import DETECTIONS, PROPOSALS, SCORES
from frcnn_cli.store.stage import open_stage

_SUPPRESSION = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)  # values of NMS's IoU that are tried
_SCORES = (0.5, 0.2, 0.1)  # fractions of the score threshold


@dataclass(frozen=True)
class Change:
    """What another value of one threshold does, with everything else as it was.

    setting: the value. recovered: objects that were missed and are then found. lost: objects that were found and are
    then missed. false: how many more detections are false. mean_ap: the mAP with it.
    """

    setting: str
    recovered: int
    lost: int
    false: int
    mean_ap: float


@dataclass(frozen=True)
class WhatIf:
    """changes: of thresholds. more_boxes: missed objects covered by no scored proposal, but by a proposal in the file
    that was not scored. uncovered: missed objects that no proposal in the file covers."""

    changes: tuple[Change, ...]
    more_boxes: int
    uncovered: int


def what_if(
    dets: Path,
    scores: Path,
    props: Path,
    images: Mapping[str, ImageRecord],
    ground_truth: Mapping[str, GroundTruth],
    result: Result,
    progress: Progress = SILENT,
) -> WhatIf:
    """Tries other values of each threshold of NMS on the scores of all images.

    Args:
        dets, scores, props, images, result: as in `explain_files`. ground_truth: the objects of these images.

    Raises:
        MismatchError: as `explain_files`.
    """
    before = _found(result.matches)
    classes = [c.name for c in result.classes]
    with open_stage(dets, DETECTIONS) as d, open_stage(scores, SCORES) as s, open_stage(props, PROPOSALS) as p:
        thresholds, min_scores = recorded_thresholds(d)
        rows_in = [join(list(images.values()), file.images, str(dets), str(file.path)) for file in (s, p)]
        tried = list(_settings(thresholds, min_scores))
        found: list[dict[str, Detections]] = [{} for _ in tried]
        recipe = recorded_recipe(s)
        count = recipe.detection.proposals or None if recipe is not None else None
        missed: list[tuple[int, int]] = []  # counts: not covered by a scored proposal, by any
        with progress.task("what if", len(images)) as bar:
            for i, (key, in_scores, in_props) in enumerate(zip(images, *rows_in, strict=True)):
                scored = s[in_scores]
                for (_, changed, minimum), into in zip(tried, found, strict=True):
                    into[key] = detections_from_scores(scored["probabilities"], scored["boxes"], changed, minimum)
                missed.append(
                    _uncovered(i, p[in_props]["boxes"], count, ground_truth[key], before, result.iou_threshold)
                )
                bar.advance()
    changes = []
    for (name, _, _), detections in zip(tried, found, strict=True):
        other = evaluate(detections, ground_truth, classes, result.iou_threshold, result.metric)
        after = _found(other.matches)
        false = int((other.matches.outcomes == WRONG).sum() - (result.matches.outcomes == WRONG).sum())
        changes.append(Change(name, len(after - before), len(before - after), false, other.mean_ap))
    scored_only, all_boxes = (sum(column) for column in zip(*missed, strict=True)) if missed else (0, 0)
    return WhatIf(tuple(changes), scored_only - all_boxes, all_boxes)


def _settings(
    thresholds: Thresholds, min_scores: list[float] | None
) -> Iterator[tuple[str, Thresholds, list[float] | None]]:
    for value in _SUPPRESSION:
        if value != thresholds.iou:
            yield f"--iou {value:g}", thresholds.changed(iou=value), min_scores
    for fraction in _SCORES if thresholds.min_score > 0 else ():
        value = thresholds.min_score * fraction
        yield f"--min-score {value:g}", thresholds.changed(min_score=value), min_scores
    if min_scores is not None:
        yield "--per-set 0", thresholds, None
    if thresholds.per_class:
        yield "--per-class 0", thresholds.changed(per_class=0), min_scores
    if thresholds.max_per_image:
        yield "--max-per-image 0", thresholds.changed(max_per_image=0), min_scores


def _found(matches: Matches) -> set[tuple[int, int]]:
    """Image and object of every correct detection."""
    hit = matches.outcomes == CORRECT
    return set(zip(matches.images[hit].tolist(), matches.objects[hit].tolist(), strict=True))


def _uncovered(
    image: int,
    boxes: np.ndarray[tuple[int, int], np.dtype[np.float32]],
    scored: int | None,
    truth: GroundTruth,
    found: set[tuple[int, int]],
    threshold: float,
) -> tuple[int, int]:
    """How many missed objects the scored proposals do not cover, and how many no proposal covers."""
    missed = [j for j in np.flatnonzero(~truth.difficult).tolist() if (image, j) not in found]
    if not missed:
        return 0, 0
    by_scored, by_all = (
        int((best_overlap(truth.boxes[missed], some)[0] < threshold).sum()) for some in (boxes[:scored], boxes)
    )
    return by_scored, by_all
