"""A features file and a proposals file -> a scores file."""

from __future__ import annotations

import time
from pathlib import Path

from frcnn_cli.core.errors import FileFormatError, MismatchError, UsageError
from frcnn_cli.core.progress import SILENT, Progress
from frcnn_cli.core.shards import SHARD, Shard, recorded
from frcnn_cli.detector.detector import Detector
from frcnn_cli.features.columns import from_columns
from frcnn_cli.store.join import join
from frcnn_cli.store.schema import FEATURES, PROPOSALS, SCORES
from frcnn_cli.store.stage import open_stage
from frcnn_cli.store.summary import StageSummary
from frcnn_cli.store.writer import StageWriter


def score_proposals(
    features: str | Path,
    proposals: str | Path,
    detector: Detector,
    output: str | Path,
    *,
    shard: str | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> StageSummary:
    """Scores the proposals of every image of a features file and writes a scores file.

    Every proposal gets a probability per class and for the background, and a refined box per class.

    Args:
        shard: "2/8" for the second of eight parts of the images, which other machines compute; see `core.shards`.

    Raises:
        MismatchError: the files are of different images, or the maps of another model.
        FrcnnError: a file cannot be read or written.
    """
    started = time.perf_counter()
    boxes = 0
    with open_stage(features, FEATURES) as maps, open_stage(proposals, PROPOSALS) as proposed:
        part = maps.provenance.get(SHARD)
        if part is not None and shard not in (None, part):
            raise UsageError(f"{features} is shard {part} already", "Name all shards of it, or leave --shard out")
        own = None if shard is None else Shard.parse(shard)
        wanted = [i for i, image in enumerate(maps.images) if own is None or own.holds(image.key)]
        images = [maps.images[i] for i in wanted]
        rows = dict(zip(wanted, join(images, proposed.images, str(features), str(proposals)), strict=True))
        if maps.provenance.get("features_id") != detector.features_id:
            raise MismatchError(
                f"the maps of {features} were computed with other conv layers than those of the model",
                f"Compute them again: frcnn features IMAGES --model MODEL -o {features} --force",
            )
        provenance = {
            "classes": list(detector.classes),
            "model": detector.model_id,
            "recipe": detector.config.recipe,
            "features": maps.provenance,
            "proposals": {**proposed.provenance, "boxes": proposed.rows_digest("boxes")},
            **recorded(shard or part),
        }
        if detector.precision != "float32":
            provenance["precision"] = detector.precision
        with StageWriter(Path(output), SCORES, provenance, force) as out:
            todo = [i for i in wanted if not out.is_done(maps.images[i])]
            with progress.task("score", len(todo)) as bar:
                for i in todo:
                    image = maps.images[i]
                    try:
                        feature_maps, scales = from_columns(maps[i])
                    except ValueError as error:
                        raise FileFormatError(
                            f"{features}: image {image.key!r} ({error})", "Compute it again"
                        ) from None
                    candidates = proposed[rows[i]]["boxes"]
                    scores = detector.score(feature_maps, candidates, scales, image.height, image.width)
                    out.add(image, scores._asdict())
                    boxes += len(candidates)
                    bar.advance()
            written = out.finish()
    skipped, seconds = written - len(todo), time.perf_counter() - started
    return StageSummary(Path(output), written, len(todo), skipped, boxes, seconds)
