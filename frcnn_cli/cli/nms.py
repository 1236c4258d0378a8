"""frcnn nms: scores.h5 -> dets.h5."""

from __future__ import annotations

from pathlib import Path

import click

from frcnn_cli.cli import options, resolve
from frcnn_cli.cli.command import Command
from frcnn_cli.cli.display import Display


@click.command(cls=Command)
@click.argument("scores", type=options.PATH)
@options.output("dets.h5")
@options.nms_iou
@options.min_score
@options.per_class
@options.max_per_image
@click.option(
    "--per-set",
    default=None,
    type=click.IntRange(0),
    help="Of a class, this many times the number of images are kept over the whole set; 0: all. Default: as the model's"
    " recipe has it.",
)
@options.force
@options.as_json
@click.pass_obj
def command(
    display: Display,
    scores: Path,
    output: Path,
    iou: float | None,
    min_score: float | None,
    per_class: int | None,
    max_per_image: int | None,
    per_set: int | None,
    force: bool,
    as_json: bool,
) -> None:
    """Turn SCORES into detections.

    A threshold on the score, non-maximum suppression of each class on its own, then the best of each image. The paper's
    recipe keeps, of each class, the best over the whole set of images instead.

    \b
    frcnn nms scores.h5 -o dets.h5
    frcnn nms scores.h5 -o dets.h5 --iou 0.5 --min-score 0.01 --max-per-image 300
    """
    from frcnn_cli.detections.columns import to_columns
    from frcnn_cli.detections.nms import Thresholds, detect, scores_to_exceed
    from frcnn_cli.store.reader import StageFile
    from frcnn_cli.store.schema import DETECTIONS, SCORES
    from frcnn_cli.store.writer import StageWriter

    resolve.must_differ(output, scores)
    with StageFile(scores, SCORES) as file:
        recipe = resolve.recipe_of(file)
        thresholds = Thresholds()
        if recipe is not None:
            rule = recipe.detection
            thresholds = Thresholds(rule.iou, rule.min_score, rule.max_per_image, rule.per_class)
            per_set = rule.per_set if per_set is None else per_set
        thresholds = options.thresholds(
            thresholds, iou=iou, min_score=min_score, max_per_image=max_per_image, per_class=per_class
        )
        above = None
        if per_set:
            probabilities = (file.read(i, ("probabilities",))["probabilities"] for i in range(len(file)))
            above = scores_to_exceed(probabilities, len(file.classes), thresholds, per_set)
        provenance = {
            "classes": list(file.classes),
            "thresholds": {**thresholds._asdict(), "per_set": per_set or 0, **({"above": above} if above else {})},
            "scores": {name: value for name, value in file.provenance.items() if name != "classes"},
        }
        with StageWriter(output, DETECTIONS, provenance, force) as out:
            with display.progress("nms", len(file)) as bar:
                for i, image in enumerate(file.images):
                    if not out.is_done(image):
                        arrays = file[i]
                        detections = detect(arrays["probabilities"], arrays["boxes"], thresholds, above)
                        out.add(image, to_columns(detections))
                    bar.advance()
            written = out.finish()
    with StageFile(output, DETECTIONS) as made:
        found = made.row_count
    if as_json:
        display.json({"output": str(output), "images": written, "detections": found})
    else:
        display.note(f"{output}: {written} images, {found} detections")
