"""Many images through a detector in memory: proposals, conv maps, scores, suppression."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frcnn_cli.core.annotations import Detections
from frcnn_cli.core.boxes import Boxes
from frcnn_cli.core.decoding import digest_file, read_ref
from frcnn_cli.core.errors import FrcnnError, ImageError
from frcnn_cli.core.find import Images, image_refs
from frcnn_cli.core.image import Image, ImageRef
from frcnn_cli.core.progress import SILENT, Progress
from frcnn_cli.core.shards import in_shard, recorded
from frcnn_cli.detections.columns import from_columns, to_columns
from frcnn_cli.detections.nms import Thresholds
from frcnn_cli.detector.detector import Detector
from frcnn_cli.detector.maps import rounded_for_head
from frcnn_cli.inference.pipeline import FailedImage, FeaturePipeline
from frcnn_cli.inference.reading import read_images
from frcnn_cli.inference.work import Computed, Work, computed
from frcnn_cli.proposals.prepare import prepare
from frcnn_cli.proposals.propose import propose
from frcnn_cli.proposals.source import ProposalSource
from frcnn_cli.store.schema import DETECTIONS
from frcnn_cli.system.background import BackgroundCalls
from frcnn_cli.system.cluster import Cluster
from frcnn_cli.system.prefetch import prefetch

OnDetected = Callable[[Image, Detections], None]


@dataclass(frozen=True)
class DetectionRun:
    """The outcome of `run_detection`.

    detections: by image key, in the order of the images. failed: the errors of images that could not be processed.
    seconds: duration. busy: the fraction of the time that the network computed. written: images in the output file.
    """

    detections: dict[str, Detections]
    failed: Mapping[str, FrcnnError]
    seconds: float
    busy: float
    written: int = 0


def detect_images(
    images: Images,
    detector: Detector | str | Path,
    *,
    source: ProposalSource | None = None,
    thresholds: Thresholds | None = None,
    progress: Progress = SILENT,
) -> dict[str, Detections]:
    """The detections in many images, by image key. Images are decoded, and boxes proposed, ahead of the network.

        found = detect_images("photographs/", Detector.load("runs/my"))

    Args:
        images: a `Dataset`; a file, a folder, `@list.txt`, a URL, archives or a table (see `core.find.find_images`);
            or a list of them or of `ImageRef`.
        detector: a detector, or the path of a model or run.
        source: the proposal source; by default that which the model was trained with.
        thresholds: by default those of the recipe of the model.

    Raises:
        FrcnnError: an image cannot be read, or the source failed on it (use `run_detection` to continue with others).
    """
    loaded = detector if isinstance(detector, Detector) else Detector.load(detector)
    run = run_detection(image_refs(images), loaded, source=source, thresholds=thresholds, progress=progress)
    for error in run.failed.values():
        raise error
    return run.detections


def run_detection(
    refs: Sequence[ImageRef],
    detector: Detector,
    *,
    source: ProposalSource | None = None,
    thresholds: Thresholds | None = None,
    output: Path | None = None,
    dtype: str = "float16",
    batch: int | None = None,
    shard: str | None = None,
    cluster: Cluster | None = None,
    force: bool = False,
    on_detected: OnDetected | None = None,
    revisit: bool = False,
    progress: Progress = SILENT,
) -> DetectionRun:
    """Like `detect_images`, but continues after images that fail, and can write a detections file.

    Args:
        output: a detections file to write. After an interruption, the same call continues where it stopped, and it
            completes a file that lacks images which could not be read before.
        dtype: "float16" or "float32", to which conv maps are rounded.
        batch: maximum number of images of equal shape per batch; by default 8 on a GPU and 1 on a CPU.
        shard: "2/8" for the second of eight parts of the images, which other machines compute; see `core.shards`.
        cluster: compute on the machines of a Ray cluster.
        force: replace an existing file.
        on_detected: called for every image, in the background.
        revisit: also call `on_detected` for images that an earlier run had finished.
    """
    refs = in_shard(refs, shard)
    source = source or detector.source()
    thresholds = thresholds or detector.thresholds
    prepare(source, progress)
    found: dict[str, Detections] = {}
    failed: dict[str, FrcnnError] = {}
    started = time.perf_counter()
    written = 0
    work = _Detection(detector, source, thresholds, dtype, batch)
    with ExitStack() as stack:
        out = None
        if output is not None:
            from frcnn_cli.store.writer import StageWriter  # imported late: most detections are not written to a file

            made_with = _provenance(detector, source, thresholds, dtype) | recorded(shard)
            out = stack.enter_context(StageWriter(output, DETECTIONS, made_with, force, extend=True))
        pending = set(out.missing(refs, digest_file)) if out is not None else set(refs)
        background = stack.enter_context(BackgroundCalls())
        bar = stack.enter_context(progress.task("detect", len(refs)))
        for done in computed(work, [ref for ref in refs if ref in pending], cluster):
            if done.error is not None:
                failed[done.ref.key] = done.error
                progress.failed(done.ref.key, done.error)
            elif done.record is not None and done.columns is not None:
                detections = found[done.ref.key] = from_columns(done.columns, detector.classes)
                if out is not None:
                    background(out.add, done.record, done.columns)
                if on_detected is not None:
                    background(_with_image(on_detected), done, detections)
            bar.advance()
        background.wait()
        if out is not None:
            for ref in refs:
                if ref not in pending:
                    found[ref.key] = from_columns(out.read(ref.key), detector.classes)
                    if revisit and on_detected is not None:
                        on_detected(read_ref(ref), found[ref.key])
                    bar.advance()
            written = out.finish()
    ordered = {ref.key: found[ref.key] for ref in refs if ref.key in found}
    return DetectionRun(ordered, failed, time.perf_counter() - started, work.busy, written)


def _with_image(on_detected: OnDetected) -> Callable[[Computed, Detections], None]:
    """The same for images that a cluster has computed, whose pixels it did not send."""

    def call(done: Computed, detections: Detections) -> None:
        on_detected(done.image or read_ref(done.ref), detections)

    return call


@dataclass
class _Detection(Work):
    source: ProposalSource
    thresholds: Thresholds
    dtype: str
    batch: int | None

    def compute(self, refs: Sequence[ImageRef]) -> Iterator[Computed]:
        detector, shares = self.detector, self.detector.shares_maps(self.source)
        proposer = _Proposer(detector, self.source)
        # A source that reads the maps gets them in float32, as in `frcnn proposals`.
        pipeline = FeaturePipeline(detector, "float32" if shares else self.dtype, self.batch, to_cpu=False)
        decoded = read_images(refs)
        for done in pipeline.run(decoded if shares else proposer.ahead(decoded)):
            if isinstance(done, FailedImage):
                yield Computed(done.ref, error=done.error)
                continue
            image, maps = done.image, done.features
            try:
                with pipeline.also_computing():
                    if shares:
                        boxes = detector.propose(image, self.source, maps, done.scale)
                        maps = rounded_for_head(maps, self.dtype, image.key)
                    else:
                        boxes = proposer.take(done.ref.key)
                    detections = detector.detect_in_maps(
                        maps, boxes, done.scale, image.height, image.width, self.thresholds
                    )
                yield Computed(done.ref, image.record, to_columns(detections), image=image)
            except FrcnnError as error:
                yield Computed(done.ref, error=error)
        self.busy = pipeline.busy


class _Proposer:
    """Proposes boxes on a thread while the network computes, and keeps them until the map of the image is there."""

    def __init__(self, detector: Detector, source: ProposalSource) -> None:
        self.source, self.limits = source, detector.limits
        self._boxes: dict[str, Boxes] = {}

    def ahead(
        self, images: Iterator[tuple[ImageRef, Image | ImageError]]
    ) -> Iterator[tuple[ImageRef, Image | FrcnnError]]:
        """The images; one on which the source fails is replaced by its error."""
        return prefetch(self._propose, images, threads=1)

    def take(self, key: str) -> Boxes:
        """The boxes of an image."""
        return self._boxes.pop(key)

    def _propose(self, item: tuple[ImageRef, Image | ImageError]) -> tuple[ImageRef, Image | FrcnnError]:
        ref, image = item
        if isinstance(image, ImageError):
            return item
        try:
            self._boxes[ref.key] = propose(image, self.source, self.limits).boxes
        except FrcnnError as error:
            return ref, error
        return item


def _provenance(detector: Detector, source: ProposalSource, thresholds: Thresholds, dtype: str) -> dict[str, Any]:
    return {
        "classes": list(detector.classes),
        "thresholds": thresholds._asdict(),
        "model": detector.model_id,
        "dtype": dtype,
        "recipe": detector.config.recipe,
        **({"precision": detector.precision} if detector.precision != "float32" else {}),
        "proposals": {"source": source.described(), **detector.limits._asdict()},
        **({"class_vectors": detector.class_vectors.digest} if detector.class_vectors is not None else {}),
    }
