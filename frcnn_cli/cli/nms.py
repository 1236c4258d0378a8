"""frcnn nms: scores.h5 -> dets.h5."""

from __future__ import annotations

from pathlib import Path

import click

from frcnn_cli.cli import options
from frcnn_cli.cli.command import Command
from frcnn_cli.cli.display import Display


@click.command(cls=Command)
@click.argument("scores", type=options.PATH)
@options.output("dets.h5")
@options.nms_iou
@options.min_score
@options.max_per_image
@options.force
@options.as_json
@click.pass_obj
def command(
    display: Display,
    scores: Path,
    output: Path,
    iou: float,
    min_score: float,
    max_per_image: int,
    force: bool,
    as_json: bool,
) -> None:
    """Turn SCORES into detections.

    A threshold on the score, non-maximum suppression of each class on its own, then the best of each image.

    \b
    frcnn nms scores.h5 -o dets.h5
    frcnn nms scores.h5 -o dets.h5 --iou 0.5 --min-score 0.01 --max-per-image 300
    """
    from frcnn_cli.detections.columns import to_columns
    from frcnn_cli.detections.nms import Thresholds, detect
    from frcnn_cli.store.reader import StageFile
    from frcnn_cli.store.schema import DETECTIONS, SCORES
    from frcnn_cli.store.writer import StageWriter

    options.must_differ(output, scores)
    thresholds = Thresholds(iou, min_score, max_per_image)
    with StageFile(scores, SCORES) as file:
        provenance = {
            "classes": list(file.classes),
            "thresholds": thresholds._asdict(),
            "scores": {name: value for name, value in file.provenance.items() if name != "classes"},
        }
        with StageWriter(output, DETECTIONS, provenance, force) as out:
            with display.progress("nms", len(file)) as bar:
                for i, image in enumerate(file.images):
                    if not out.is_done(image):
                        arrays = file[i]
                        detections = detect(arrays["probabilities"], arrays["boxes"], thresholds)
                        out.add(image, to_columns(detections))
                    bar.advance()
            written = out.finish()
    with StageFile(output, DETECTIONS) as made:
        found = made.row_count
    if as_json:
        display.json({"output": str(output), "images": written, "detections": found})
    else:
        display.note(f"{output}: {written} images, {found} detections")
