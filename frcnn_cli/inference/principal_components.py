"""The principal components of a detector's conv maps, from a sample of images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from frcnn_cli.core.errors import FrcnnError, MismatchError, UsageError
from frcnn_cli.core.image import ImageRef
from frcnn_cli.core.progress import SILENT, Progress
from frcnn_cli.detector.detector import Detector
from frcnn_cli.features.coding import Basis, Cells, Coding
from frcnn_cli.features.columns import to_columns
from frcnn_cli.inference.pipeline import FailedImage, FeaturePipeline
from frcnn_cli.inference.reading import read_images
from frcnn_cli.store.begun import earlier_provenance
from frcnn_cli.store.schema import FEATURES
from frcnn_cli.store.stage import open_stage

_SAMPLE = 64  # images: with 600 pixels on the short side some 100,000 cells, for at most some thousand channels


def basis_for(
    images: Sequence[ImageRef],
    detector: Detector,
    output: Path,
    count: int | None,
    taken_from: str | Path | None,
    force: bool,
    progress: Progress = SILENT,
) -> Basis | None:
    """The principal components with which a features file is written; None: its channels as they are.

    They come from `taken_from`, or from the earlier run that this one continues, or are computed from a sample of all
    images, so that every shard of a run computes the same ones.

    Raises:
        MismatchError: `taken_from` holds none, another number of them, or maps of other conv layers.
        FrcnnError: no image of the sample can be read.
    """
    if taken_from is not None:
        return _from_file(taken_from, detector, count)
    if count is None:
        return None
    earlier = None if force else earlier_provenance(output, FEATURES)
    if earlier is not None and earlier.get("features_id") == detector.features_id:
        basis = Coding.of(earlier, output).basis
        if basis is not None and len(basis.components) == count:
            return basis
    return Basis.fitted(_cells(_sample(images), detector, progress), count)


def _from_file(path: str | Path, detector: Detector, count: int | None) -> Basis:
    with open_stage(path, FEATURES) as file:
        basis = Coding.of(file.provenance, path).basis
        if basis is None:
            raise MismatchError(f"{path} holds no principal components", "Name a file that was computed with --pca")
        if file.provenance["features_id"] != detector.features_id:
            raise MismatchError(f"{path} was computed with other conv layers", "Name a file of the same model")
    if count is not None and count != len(basis.components):
        raise UsageError(f"{path} holds {len(basis.components)} principal components, not {count}", "Leave --pca out")
    return basis


def _sample(images: Sequence[ImageRef]) -> list[ImageRef]:
    """Some of the images, whatever their order."""

    def place(ref: ImageRef) -> bytes:
        return hashlib.blake2b(b"sample" + ref.key.encode(), digest_size=16).digest()

    return sorted(images, key=place)[:_SAMPLE]


def _cells(sample: Sequence[ImageRef], detector: Detector, progress: Progress) -> Iterator[Cells]:
    error: FrcnnError | None = None
    found = 0
    with progress.task("principal components", len(sample)) as bar:
        for done in FeaturePipeline(detector, "float32").run(read_images(sample)):
            if isinstance(done, FailedImage):
                error = done.error
            else:
                found += 1
                cells: Cells = to_columns(done.features, done.scale)["maps"].astype(np.float32)
                yield cells
            bar.advance()
    if not found:
        raise error or FrcnnError("there are no images to compute principal components from", "Name some images")
