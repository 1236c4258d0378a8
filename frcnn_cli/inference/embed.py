"""Images and boxes -> a vector per box: the output of the last hidden layer, or the pooled map."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.boxes import Boxes
from frcnn_cli.core.decoding import digest_file
from frcnn_cli.core.errors import FeatureError, FrcnnError, UsageError
from frcnn_cli.core.find import Images, image_refs
from frcnn_cli.core.image import Image, ImageRef
from frcnn_cli.core.progress import SILENT, Progress
from frcnn_cli.core.shards import in_shard, recorded
from frcnn_cli.detections.nms import detections_from_scores
from frcnn_cli.detections.vectors.box_vectors import BoxVectors, to_columns
from frcnn_cli.detector.detector import Detector
from frcnn_cli.inference.pipeline import FailedImage, FeaturePipeline
from frcnn_cli.inference.reading import read_images
from frcnn_cli.inference.work import Computed, Work, computed, write_computed
from frcnn_cli.proposals.limits import validated
from frcnn_cli.proposals.prepare import prepare
from frcnn_cli.proposals.registry import get_source
from frcnn_cli.proposals.source import ProposalSource
from frcnn_cli.proposals.sources.file import FileSource
from frcnn_cli.roi.levels import Maps, Scales
from frcnn_cli.store.schema import VECTORS
from frcnn_cli.store.summary import StageSummary
from frcnn_cli.store.writer import StageWriter
from frcnn_cli.system.cluster import Cluster

Layer = Literal["hidden", "pooled", "mean"]


class PerImage(NamedTuple):
    """How many of the best detections of an image get a vector: those above the score threshold of the model, but at
    least `least` and at most `most`."""

    least: int
    most: int

    @classmethod
    def parse(cls, text: str) -> PerImage:
        """ "36": exactly 36; "10-100": from 10 to 100. Raises UsageError."""
        low, dash, high = text.partition("-")
        try:
            made = cls(int(low), int(high if dash else low))
        except ValueError:
            raise UsageError(f"{text!r} is not a number of boxes", "Write 36, or 10-100") from None
        if not 1 <= made.least <= made.most <= 100_000:
            raise UsageError(f"{text!r} is not a number of boxes", "Write 36, or 10-100")
        return made


def embed_boxes(
    images: Images,
    detector: Detector,
    output: str | Path,
    *,
    boxes: str | Path | None = None,
    per_image: PerImage | tuple[int, int] | None = None,
    source: ProposalSource | None = None,
    layer: Layer = "hidden",
    dtype: Literal["float16", "float32"] = "float32",
    normalise: bool = False,
    batch: int | None = None,
    shard: str | None = None,
    cluster: Cluster | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> StageSummary:
    """Computes a vector per box and writes a file of vectors; with the most probable class of each box, if the detector
    is trained.

    After an interruption at any moment, the same call continues where it stopped.

    Args:
        images: a `Dataset`; a file, a folder, `@list.txt`, a URL, archives or a table (see `core.find.find_images`);
            or a list of them or of `ImageRef`.
        boxes: a box file that `frcnn import` reads; every box gets a vector, in the order of the file.
        per_image: in place of `boxes`, at least and at most how many of the best detections get a vector. It is that of
            the proposal from which the detection was refined; no proposal occurs twice.
        source: proposes boxes for `per_image`; by default the source that the model was trained with.
        layer: "hidden": what the two output layers read; "pooled": the pooled map, C * H * W numbers; "mean": its mean
            over the bins, C numbers.
        dtype: "float16" or "float32", of the vectors.
        normalise: whether vectors are divided by their length.
        shard: "2/8" for the second of eight parts of the images, which other machines compute; see `core.shards`.
        cluster: compute on the machines of a Ray cluster.

    Raises:
        UsageError: not exactly one of `boxes` and `per_image`. FrcnnError: all images failed, or the file exists or
            cannot be written.
    """
    if (boxes is None) == (per_image is None):
        raise UsageError("vectors are computed either for given boxes or for detections", "Give boxes or per_image")
    if layer == "hidden" and detector.hidden_is_random:
        raise UsageError(
            f"the hidden layers of {detector.config.network.backbone} start from random weights, so their vectors mean"
            " nothing",
            "Use --layer mean or --layer pooled, or a trained model",
        )
    per_image = None if per_image is None else PerImage(*per_image)
    refs = in_shard(image_refs(images), shard)
    chosen = get_source("file", path=Path(boxes)) if boxes is not None else source or detector.source()
    provenance: dict[str, Any] = {
        "model": detector.model_id,
        "classes": list(detector.classes),
        "layer": layer,
        "dtype": dtype,
        "normalised": normalise,
        "boxes": chosen.described(),
        **({"per_image": list(per_image)} if per_image else {}),
        **({"precision": detector.precision} if detector.precision != "float32" else {}),
        **recorded(shard),
    }
    started = time.perf_counter()
    work = _Vectors(detector, chosen, per_image, layer, dtype, normalise, batch)
    with StageWriter(Path(output), VECTORS, provenance, force, extend=True) as out:
        todo = out.missing(refs, digest_file)
        if todo:
            prepare(chosen, progress)
        skipped = len(refs) - len(todo)
        outcomes = computed(work, todo, cluster)
        failed, rows = write_computed(outcomes, out, "embed", len(todo), skipped, progress)
        written = out.finish()
    seconds = time.perf_counter() - started
    return StageSummary(Path(output), written, len(todo) - len(failed), skipped, rows, seconds, failed, work.busy)


@dataclass
class _Vectors(Work):
    source: ProposalSource
    per_image: PerImage | None
    layer: Layer
    dtype: str
    normalise: bool
    batch: int | None

    def compute(self, refs: Sequence[ImageRef]) -> Iterator[Computed]:
        pipeline = FeaturePipeline(self.detector, "float32", self.batch, to_cpu=False)
        for done in pipeline.run(read_images(refs)):
            if isinstance(done, FailedImage):
                yield Computed(done.ref, error=done.error)
                continue
            try:
                with pipeline.also_computing():
                    found = _embed(
                        self.detector, done.image, done.features, done.scale, self.source, self.per_image, self.layer
                    )
                vectors = _rounded(found.vectors, self.dtype, self.normalise, done.ref.key)
                yield Computed(done.ref, done.image.record, to_columns(found) | {"vectors": vectors})
            except FrcnnError as error:
                yield Computed(done.ref, error=error)
        self.busy = pipeline.busy


def _embed(
    detector: Detector,
    image: Image,
    maps: Maps,
    scales: Scales,
    source: ProposalSource,
    per_image: PerImage | None,
    layer: Layer,
) -> BoxVectors:
    if per_image is None:
        assert isinstance(source, FileSource)
        given = validated(source.propose_all(image), image, source.name).boxes
        indices = np.arange(len(given))
        boxes = given
    else:
        given = detector.propose(image, source, maps, scales)
        boxes, indices = _best(detector, maps, given, scales, image, per_image)
    classify = not detector.outputs_are_random
    vectors, probabilities = detector.vectors(maps, given[indices], scales, layer, classify)
    labels, scores = None, None
    if classify:
        labels = probabilities[:, 1:].argmax(axis=1)
        scores = probabilities[np.arange(len(labels)), labels + 1]
    own = {} if per_image is None else {"proposals": indices}
    return BoxVectors(image.key, image.height, image.width, boxes, vectors, labels, scores, **own)


def _best(
    detector: Detector, maps: Maps, given: Boxes, scales: Scales, image: Image, per_image: PerImage
) -> tuple[Boxes, NDArray[np.int64]]:
    """Boxes [N, 4] of the best detections, one per proposal, and the indices of their proposals."""
    scores = detector.score(maps, given, scales, image.height, image.width)
    usual = detector.thresholds
    every = detections_from_scores(*scores, usual.changed(min_score=0.0, max_per_image=0, per_class=0))
    _, first = np.unique(every.proposals, return_index=True)
    first = np.sort(first)[: per_image.most]
    confident = int((every.scores[first] > usual.min_score).sum())
    kept = first[: max(per_image.least, confident)]
    return every.boxes[kept], every.proposals[kept]


def _rounded(vectors: NDArray[np.float32], dtype: str, normalise: bool, key: str) -> NDArray[Any]:
    if normalise:
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    with np.errstate(over="ignore"):
        rounded = vectors.astype(dtype)
    if not np.isfinite(rounded).all():
        if np.isfinite(vectors).all():
            raise FeatureError(f"a vector of {key} overflows float16", "Add --dtype float32, or --normalise")
        raise FeatureError(f"a vector of {key} holds NaN", "Train again from scratch with a lower learning rate")
    return rounded
