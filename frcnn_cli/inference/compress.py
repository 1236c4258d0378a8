"""A detector made smaller and faster by truncated SVD, and measured before and after (section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from frcnn_cli.core.decoding import read_image
from frcnn_cli.core.errors import FrcnnError, UsageError
from frcnn_cli.core.progress import SILENT, Progress
from frcnn_cli.data.dataset import Dataset
from frcnn_cli.data.pairing import ProposedSample, pair, proposed_samples
from frcnn_cli.detector.compression import Compressor, MappedSample, mean_ap, milliseconds, random_image
from frcnn_cli.detector.detector import Detector
from frcnn_cli.store.schema import PROPOSALS
from frcnn_cli.store.stage import open_stage

_TIMED = 20  # images


@dataclass(frozen=True)
class Compression:
    """A compressed detector beside its original. Pairs are (before, after).

    ranks: of the replaced layers. sizes: their numbers of inputs and outputs.
    milliseconds: per image, from conv map to scores. mean_ap: None without images. images: how many were evaluated.
    """

    detector: Detector
    ranks: Mapping[str, int]
    sizes: Mapping[str, tuple[int, int]]
    milliseconds: tuple[float, float]
    mean_ap: tuple[float, float] | None
    images: int


def compress(
    detector: Detector,
    *,
    ranks: Mapping[str, int] | None = None,
    energy: float | None = None,
    max_drop: float | None = None,
    samples: Sequence[MappedSample] = (),
    progress: Progress = SILENT,
) -> Compression:
    """Replaces hidden layers by two smaller ones each.

    Args:
        ranks: by layer (fc6, fc7). Exactly one of ranks, energy and max_drop must be given.
        energy: the smallest ranks that keep this share of the squared singular values.
        max_drop: the smallest ranks with which mAP on `samples` drops by at most this much.
        samples: images to evaluate and time on (see `map_samples`).

    Raises:
        UsageError: a model that cannot be compressed, or an impossible rank. FrcnnError: no layer can be made smaller.
    """
    if sum(given is not None for given in (ranks, energy, max_drop)) != 1:
        raise UsageError("state one of ranks, energy and max_drop", "Give one of --rank, --energy and --max-drop")
    if energy is not None and not 0 < energy <= 1:
        raise UsageError(f"energy is a fraction between 0 and 1, not {energy}", "Use for example 0.9")
    if max_drop is not None and not samples:
        raise UsageError("max_drop needs samples to evaluate on", "Pass samples (see map_samples)")
    compressor = Compressor(detector)
    before = mean_ap(detector, samples, "before", progress) if samples else None
    if energy is not None:
        ranks = compressor.ranks_for(energy)
    elif max_drop is not None and before is not None:
        ranks = _ranks_within(compressor, before, max_drop, samples, progress)
    if not ranks:
        option, fix = ("--energy", "lower") if energy is not None else ("--max-drop", "larger")
        raise FrcnnError(
            f"no layer becomes smaller with this {option}", f"Use a {fix} {option}, or choose ranks with --rank"
        )
    made = compressor.compressed(ranks)
    both = None if before is None else (before, mean_ap(made, samples, "after", progress))
    slow, fast = milliseconds((detector, made), samples[:_TIMED] or [random_image(detector)] * 5)
    layers = {name: compressor.layer(name) for name in ranks}
    sizes = {name: (layer.in_features, layer.out_features) for name, layer in layers.items()}
    return Compression(made, ranks, sizes, (slow, fast), both, len(samples))


def map_samples(
    detector: Detector,
    dataset: Dataset,
    proposals: Path,
    count: int,
    bad_boxes: str = "error",
    progress: Progress = SILENT,
) -> list[MappedSample]:
    """Conv maps, proposals and objects of at most `count` images of a data set, evenly spread over it."""
    with open_stage(proposals, PROPOSALS) as file:
        samples = proposed_samples(pair(dataset.for_model(detector.classes), file, bad_boxes), file)
    chosen = np.unique(np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int))
    mapped = []
    with progress.task("conv maps", len(chosen)) as bar:
        for i in chosen:
            mapped.append(_map_sample(detector, samples[i]))
            bar.advance()
    return mapped


def describe(ranks: Mapping[str, int]) -> str:
    """Ranks as text: fc6=1024, fc7=256."""
    return ", ".join(f"{name}={rank}" for name, rank in ranks.items())


def _map_sample(detector: Detector, sample: ProposedSample) -> MappedSample:
    image = read_image(sample.ref.path)
    maps, scales = detector.feature_map(image)
    return MappedSample(maps, sample.proposals, scales, image.height, image.width, sample.truth)


def _ranks_within(
    compressor: Compressor, full: float, max_drop: float, samples: Sequence[MappedSample], progress: Progress
) -> dict[str, int]:
    def report(trial: Mapping[str, int], found: float) -> None:
        progress.note(f"{describe(trial)}: mAP {found:.4f} ({100 * (found - full):+.2f} points)")

    return compressor.smallest_ranks(lambda made: mean_ap(made, samples, "trying", progress), full - max_drop, report)
