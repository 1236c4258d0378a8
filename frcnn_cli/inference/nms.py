"""A scores file -> a detections file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from frcnn_cli.core.errors import FileFormatError, UsageError
from frcnn_cli.core.progress import SILENT, Progress
from frcnn_cli.core.shards import SHARD
from frcnn_cli.detections.columns import to_columns
from frcnn_cli.detections.nms import Thresholds, detections_from_scores, min_scores_of_set
from frcnn_cli.recipes.recipe import Recipe
from frcnn_cli.store.reader import StageFile
from frcnn_cli.store.schema import DETECTIONS, SCORES
from frcnn_cli.store.stage import open_stage
from frcnn_cli.store.summary import StageSummary
from frcnn_cli.store.writer import StageWriter


def suppress(
    scores: str | Path,
    output: str | Path,
    *,
    per_set: int | None = None,
    force: bool = False,
    progress: Progress = SILENT,
    **thresholds: Any,
) -> StageSummary:
    """Turns the scores of every image into detections and writes a detections file.

    Args:
        per_set: per class, keep this many boxes times the number of images over the whole set; 0: all; by default as in
            the recipe of the model.
        thresholds: fields of `Thresholds` that replace those of the recipe; None keeps the recipe's.

    Raises:
        FrcnnError: a file cannot be read or written.
    """
    started = time.perf_counter()
    rows = 0
    with open_stage(scores, SCORES) as file:
        recipe = recorded_recipe(file)
        base = Thresholds()
        if recipe is not None:
            rule = recipe.detection
            base = Thresholds(rule.iou, rule.min_score, rule.max_per_image, rule.per_class)
            per_set = rule.per_set if per_set is None else per_set
        chosen = base.changed(**thresholds)
        min_scores = None
        shard = file.provenance.get(SHARD)
        if per_set and shard is not None:
            raise UsageError(
                f"{scores} is shard {shard}, but the recipe limits the boxes of each class over all images",
                "Name all shards ('scores-*.h5'), or add --per-set 0",
            )
        if per_set:
            probabilities = (file.read(i, ("probabilities",))["probabilities"] for i in range(len(file)))
            min_scores = min_scores_of_set(probabilities, len(file.classes), chosen, per_set)
        recorded = {**chosen._asdict(), "per_set": per_set or 0, **({"above": min_scores} if min_scores else {})}
        provenance = {
            "classes": list(file.classes),
            "thresholds": recorded,
            "scores": {name: value for name, value in file.provenance.items() if name != "classes"},
            **({SHARD: shard} if shard is not None else {}),
        }
        with StageWriter(Path(output), DETECTIONS, provenance, force) as out:
            todo = [i for i, image in enumerate(file.images) if not out.is_done(image)]
            with progress.task("nms", len(todo)) as bar:
                for i in todo:
                    arrays = file[i]
                    found = detections_from_scores(arrays["probabilities"], arrays["boxes"], chosen, min_scores)
                    out.add(file.images[i], to_columns(found))
                    rows += len(found)
                    bar.advance()
            written = out.finish()
    seconds = time.perf_counter() - started
    return StageSummary(Path(output), written, len(todo), written - len(todo), rows, seconds)


def recorded_recipe(file: StageFile) -> Recipe | None:
    """The recipe that a file records, if any.

    Raises:
        FileFormatError: it is not a recipe.
    """
    recorded = file.provenance.get("recipe")
    if not recorded:
        return None
    try:
        return Recipe.recorded(recorded)
    except UsageError as error:
        raise FileFormatError(f"{file.path} records a damaged recipe ({error.what})", "Compute it again") from None


def recorded_thresholds(file: StageFile) -> tuple[Thresholds, list[float] | None]:
    """The thresholds that a detections file records, and the minimum score of each class, if any.

    Raises:
        FileFormatError: the file does not record them.
    """
    try:
        recorded = {name: value for name, value in dict(file.provenance["thresholds"]).items() if name != "per_set"}
        above = recorded.pop("above", None)
        min_scores = [float(value) for value in above] if above is not None else None
        defaults = Thresholds()._asdict()
        thresholds = Thresholds(**{name: type(defaults[name])(value) for name, value in recorded.items()})
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(
            f"{file.path} does not record how it was computed ({error})", "Compute it with frcnn nms"
        ) from None
    if min_scores is not None and len(min_scores) != len(file.classes):
        raise FileFormatError(
            f"{file.path} records {len(min_scores)} thresholds for {len(file.classes)} classes",
            "Compute it with frcnn nms",
        )
    return thresholds, min_scores
