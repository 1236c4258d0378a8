"""Images -> a features file: one conv pass per image."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from frcnn_cli.core.decoding import digest_file
from frcnn_cli.core.errors import FrcnnError, ImageError
from frcnn_cli.core.find import Images, image_refs
from frcnn_cli.core.image import Image, ImageRef
from frcnn_cli.core.progress import SILENT, Progress
from frcnn_cli.core.shards import in_shard, recorded
from frcnn_cli.detector.detector import Detector
from frcnn_cli.features.columns import to_columns
from frcnn_cli.inference.pipeline import FailedImage, FeaturePipeline
from frcnn_cli.inference.reading import read_images
from frcnn_cli.store.schema import FEATURES
from frcnn_cli.store.summary import StageSummary
from frcnn_cli.store.writer import StageWriter
from frcnn_cli.system.background import BackgroundCalls


def extract_features(
    images: Images,
    detector: Detector,
    output: str | Path,
    *,
    mirrored: bool = False,
    dtype: str = "float16",
    batch: int | None = None,
    shard: str | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> StageSummary:
    """Computes the conv maps of images and writes them to a features file.

    After an interruption at any moment, the same call continues where it stopped.

    Args:
        images: a `Dataset`, a file, a folder, `@list.txt`, or a list of files or `ImageRef`.
        mirrored: also compute the maps of mirrored images, for training.
        dtype: "float16" or "float32", to which maps are rounded.
        batch: maximum number of images of equal shape per batch; by default 8 on a GPU and 1 on a CPU.
        shard: "2/8" for the second of eight parts of the images, which other machines compute; see `core.shards`.
        force: replace an existing file.

    Raises:
        FrcnnError: all images failed, or the file exists or cannot be written.
    """
    refs = in_shard(image_refs(images), shard)
    failed: dict[str, FrcnnError] = {}
    rows = 0
    started = time.perf_counter()
    made_with = provenance(detector, dtype, mirrored) | recorded(shard)
    with StageWriter(Path(output), FEATURES, made_with, force, extend=True) as out:
        todo = out.missing(refs, digest_file)
        pipeline = FeaturePipeline(detector, dtype, batch)
        with BackgroundCalls() as background, progress.task("features", len(todo)) as bar:
            decoded = read_images(todo)
            views = pipeline.run(_with_mirrored(decoded) if mirrored else decoded)
            for done in views:
                mirror = next(views) if mirrored else done  # a mirrored image follows its original
                failure = next((one for one in (done, mirror) if isinstance(one, FailedImage)), None)
                if failure is not None:
                    failed[failure.ref.key] = failure.error
                    progress.failed(failure.ref.key, failure.error)
                elif not isinstance(done, FailedImage) and not isinstance(mirror, FailedImage):
                    columns = to_columns(done.features, done.scale)
                    if mirrored:
                        columns["mirrored"] = to_columns(mirror.features, mirror.scale)["maps"]
                    rows += len(columns["maps"])
                    background(out.add, done.image.record, columns)
                bar.advance()
        written = out.finish()
    seconds, skipped = time.perf_counter() - started, len(refs) - len(todo)
    computed = len(todo) - len(failed)
    return StageSummary(Path(output), written, computed, skipped, rows, seconds, failed, pipeline.busy)


def provenance(detector: Detector, dtype: str, mirrored: bool) -> dict[str, Any]:
    """What a features file records about its maps."""
    config = detector.config
    made_with: dict[str, Any] = {
        "features_id": detector.features_id,
        "backbone": config.network.backbone,
        "fine": config.network.fine,
        "dtype": dtype,
        "recipe": config.recipe,
        "short_side": config.transform.short_side,
        "long_side": config.transform.long_side,
    }
    if detector.precision != "float32":
        made_with["precision"] = detector.precision
    if mirrored:
        made_with["mirrored"] = True
    return made_with


def _with_mirrored(
    images: Iterable[tuple[ImageRef, Image | ImageError]],
) -> Iterator[tuple[ImageRef, Image | ImageError]]:
    """Each image, followed by its mirror image."""
    for ref, image in images:
        yield ref, image
        yield ref, image if isinstance(image, ImageError) else replace(image, pixels=image.pixels[:, ::-1])
