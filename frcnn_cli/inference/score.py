"""A features file and a proposals file -> a scores file."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frcnn_cli.core.errors import FileFormatError, MismatchError, UsageError
from frcnn_cli.core.image import ImageRef
from frcnn_cli.core.progress import SILENT, Progress
from frcnn_cli.core.shards import SHARD, Shard, recorded
from frcnn_cli.detector.detector import Detector
from frcnn_cli.features.coding import Coding, without_basis
from frcnn_cli.features.columns import from_columns
from frcnn_cli.inference.work import Computed, Work, computed, write_computed
from frcnn_cli.store.join import join
from frcnn_cli.store.reader import StageFile
from frcnn_cli.store.schema import FEATURES, PROPOSALS, SCORES
from frcnn_cli.store.stage import absolute_stage, open_stage
from frcnn_cli.store.summary import StageSummary
from frcnn_cli.store.writer import StageWriter
from frcnn_cli.system.cluster import Cluster


def score_proposals(
    features: str | Path,
    proposals: str | Path,
    detector: Detector,
    output: str | Path,
    *,
    shard: str | None = None,
    cluster: Cluster | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> StageSummary:
    """Scores the proposals of every image of a features file and writes a scores file.

    Every proposal gets a probability per class and for the background, and a refined box per class.

    Args:
        shard: "2/8" for the second of eight parts of the images, which other machines compute; see `core.shards`.
        cluster: compute on the machines of a Ray cluster, which must see both files at the same paths.

    Raises:
        MismatchError: the files are of different images, or the maps of another model.
        FrcnnError: a file cannot be read or written.
    """
    started = time.perf_counter()
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
            "features": without_basis(maps.provenance),
            "proposals": {**proposed.provenance, "boxes": proposed.rows_digest("boxes")},
            **recorded(shard or part),
        }
        if detector.precision != "float32":
            provenance["precision"] = detector.precision
        location = Path(features)
        work = _Scores(detector, location, Path(proposals), {maps.images[i].key: row for i, row in rows.items()})
        work.use(maps, proposed)
        with StageWriter(Path(output), SCORES, provenance, force) as out:
            todo = [ImageRef(image.key, location) for image in images if not out.is_done(image)]
            skipped = len(images) - len(todo)
            outcomes = computed(work, todo, cluster)
            failed, boxes = write_computed(outcomes, out, "score", len(todo), skipped, progress)
            for error in failed.values():
                raise error  # of a cluster; the same command continues
            written = out.finish()
    seconds = time.perf_counter() - started
    return StageSummary(Path(output), written, len(todo), skipped, boxes, seconds)


@dataclass
class _Scores(Work):
    """rows: the key of an image -> its index in the proposals file. Tasks of a cluster open the files themselves."""

    features: Path
    proposals: Path
    rows: Mapping[str, int]

    def __post_init__(self) -> None:
        self.files: tuple[StageFile, StageFile] | None = None

    def use(self, maps: StageFile, proposed: StageFile) -> None:
        """Reads from files that are open already."""
        self.files = maps, proposed

    def __getstate__(self) -> dict[str, Any]:
        here = {"features": absolute_stage(self.features), "proposals": absolute_stage(self.proposals)}
        return self.__dict__ | here | {"files": None}

    def compute(self, refs: Sequence[ImageRef]) -> Iterator[Computed]:
        if self.files is None:
            self.files = open_stage(self.features, FEATURES), open_stage(self.proposals, PROPOSALS)
        maps, proposed = self.files
        coding = Coding.of(maps.provenance, maps.path)
        for ref in refs:
            row = maps.index[ref.key]
            image = maps.images[row]
            try:
                feature_maps, scales = from_columns(coding.decoded(maps[row]))
            except ValueError as error:
                raise FileFormatError(f"{maps.path}: image {image.key!r} ({error})", "Compute it again") from None
            candidates = proposed.read(self.rows[ref.key], ("boxes",))["boxes"]
            scores = self.detector.score(feature_maps, candidates, scales, image.height, image.width)
            yield Computed(ref, image, scores._asdict())
