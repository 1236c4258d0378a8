"""Images -> a features file: one conv pass per image."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from frcnn_cli.core.decoding import digest_file
from frcnn_cli.core.errors import FeatureError, ImageError
from frcnn_cli.core.find import Images, image_refs
from frcnn_cli.core.image import Image, ImageRef
from frcnn_cli.core.progress import SILENT, Progress
from frcnn_cli.core.shards import in_shard, recorded
from frcnn_cli.detector.detector import Detector
from frcnn_cli.features.coding import Coding
from frcnn_cli.features.columns import to_columns
from frcnn_cli.inference.pipeline import FailedImage, FeaturePipeline, MappedImage
from frcnn_cli.inference.principal_components import basis_for
from frcnn_cli.inference.reading import read_images
from frcnn_cli.inference.work import Columns, Computed, Work, computed, write_computed
from frcnn_cli.store.schema import FEATURES
from frcnn_cli.store.summary import StageSummary
from frcnn_cli.store.writer import StageWriter
from frcnn_cli.system.cluster import Cluster


def extract_features(
    images: Images,
    detector: Detector,
    output: str | Path,
    *,
    mirrored: bool = False,
    dtype: str = "float16",
    pca: int | None = None,
    basis: str | Path | None = None,
    batch: int | None = None,
    shard: str | None = None,
    cluster: Cluster | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> StageSummary:
    """Computes the conv maps of images and writes them to a features file.

    After an interruption at any moment, the same call continues where it stopped.

    Args:
        images: a `Dataset`; a file, a folder, `@list.txt`, a URL, archives or a table (see `core.find.find_images`);
            or a list of them or of `ImageRef`.
        mirrored: also compute the maps of mirrored images, for training.
        dtype: "float16" or "float32", to which maps are rounded; "int8", with a scale per image and channel; or "int4",
            4 bits for most values, which needs `pca`.
        pca: store this many principal components in place of the channels. They are computed from 64 of the images.
        basis: take the principal components from this features file, which was computed with the same conv layers.
        batch: maximum number of images of equal shape per batch; by default 8 on a GPU and 1 on a CPU.
        shard: "2/8" for the second of eight parts of the images, which other machines compute; see `core.shards`.
        cluster: compute on the machines of a Ray cluster.
        force: replace an existing file.

    Raises:
        FrcnnError: all images failed, or the file exists or cannot be written.
    """
    every = image_refs(images)
    refs = in_shard(every, shard)
    started = time.perf_counter()
    components = basis_for(every, detector, Path(output), pca, basis, force, progress)
    work = _Features(detector, Coding(dtype, components), mirrored, batch)
    made_with = provenance(detector, work.coding, mirrored) | recorded(shard)
    with StageWriter(Path(output), FEATURES, made_with, force, extend=True) as out:
        todo = out.missing(refs, digest_file)
        skipped = len(refs) - len(todo)
        outcomes = computed(work, todo, cluster)
        failed, rows = write_computed(outcomes, out, "features", len(todo), skipped, progress)
        written = out.finish()
    seconds = time.perf_counter() - started
    return StageSummary(Path(output), written, len(todo) - len(failed), skipped, rows, seconds, failed, work.busy)


def provenance(detector: Detector, coding: Coding, mirrored: bool) -> dict[str, Any]:
    """What a features file records about its maps."""
    config = detector.config
    made_with: dict[str, Any] = {
        "features_id": detector.features_id,
        "backbone": config.network.backbone,
        "fine": config.network.fine,
        **coding.described(),
        "recipe": config.recipe,
        "short_side": config.transform.short_side,
        "long_side": config.transform.long_side,
    }
    if detector.precision != "float32":
        made_with["precision"] = detector.precision
    if mirrored:
        made_with["mirrored"] = True
    return made_with


@dataclass
class _Features(Work):
    coding: Coding
    mirrored: bool
    batch: int | None

    def compute(self, refs: Sequence[ImageRef]) -> Iterator[Computed]:
        pipeline = FeaturePipeline(self.detector, self.coding.of_network, self.batch)
        decoded = read_images(refs)
        views = pipeline.run(_with_mirrored(decoded) if self.mirrored else decoded)
        for done in views:
            mirror = next(views) if self.mirrored else done  # a mirrored image follows its original
            failure = next((one for one in (done, mirror) if isinstance(one, FailedImage)), None)
            if failure is not None:
                yield Computed(failure.ref, error=failure.error)
            elif isinstance(done, MappedImage) and isinstance(mirror, MappedImage):
                yield self._coded(done, mirror if self.mirrored else None)
        self.busy = pipeline.busy

    def _coded(self, done: MappedImage, mirror: MappedImage | None) -> Computed:
        columns = to_columns(done.features, done.scale)
        if mirror is not None:
            columns["mirrored"] = to_columns(mirror.features, mirror.scale)["maps"]
        coded = self.coding.encoded(columns)
        if self.coding.basis is not None and not _are_finite(coded):
            what = f"a principal component of {done.image.key} overflows float16"
            return Computed(done.ref, error=FeatureError(what, "Use --dtype float32, int8 or int4"))
        return Computed(done.ref, done.image.record, coded)


def _are_finite(columns: Columns) -> bool:
    """Whether all values of maps in float16 are finite."""
    maps = [columns[name] for name in ("maps", "mirrored") if name in columns]
    return all(bool(np.isfinite(one).all()) for one in maps if one.dtype == np.float16)


def _with_mirrored(
    images: Iterable[tuple[ImageRef, Image | ImageError]],
) -> Iterator[tuple[ImageRef, Image | ImageError]]:
    """Each image, followed by its mirror image."""
    for ref, image in images:
        yield ref, image
        yield ref, image if isinstance(image, ImageError) else replace(image, pixels=image.pixels[:, ::-1])
