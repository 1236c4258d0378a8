"""A leaderboard of proposal sources on one data set: how well their boxes cover the objects, and how long they take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from frcnn_cli.core.annotations import GroundTruth
from frcnn_cli.core.boxes import Boxes
from frcnn_cli.core.decoding import read_ref
from frcnn_cli.core.image import ImageRef
from frcnn_cli.core.progress import SILENT, Progress
from frcnn_cli.proposals.limits import Limits
from frcnn_cli.proposals.prepare import prepare
from frcnn_cli.proposals.propose import propose
from frcnn_cli.proposals.recall import SIZES, Coverage, cover
from frcnn_cli.proposals.source import ProposalSource

COUNTS = (10, 100, 1000)


@dataclass(frozen=True)
class Place:
    """One source on the board.

    boxes: mean number per image, at most `COUNTS[-1]`. average_recall: COCO's AR at each of `COUNTS`.
    average_recall_hosang, mean_average_best_overlap, oracle: AR of Hosang et al., MABO, and the mAP of a perfect
        classifier of the boxes at IoU 0.5, all at `COUNTS[-1]`.
    recall_by_size: recall at IoU 0.5 of small, medium and large objects, at `COUNTS[-1]`; NaN without such objects.
    milliseconds: median time per image of one process, without decoding the image; NaN for boxes from a file.
    """

    name: str
    boxes: float
    average_recall: tuple[float, ...]
    average_recall_hosang: float
    mean_average_best_overlap: float
    oracle: float
    recall_by_size: dict[str, float]
    milliseconds: float


def run_source(
    name: str,
    source: ProposalSource,
    images: Sequence[tuple[ImageRef, GroundTruth]],
    limits: Limits = Limits(max_boxes=COUNTS[-1]),
    progress: Progress = SILENT,
) -> Place:
    """Computes the proposals of every image and measures them.

    Raises:
        NoObjectsError: there are no objects to cover. SourceError, ImageError: an image fails.
    """
    prepare(source, progress)
    pairs: list[tuple[Boxes, GroundTruth]] = []
    seconds: list[float] = []
    with progress.task(name, len(images)) as bar:
        for ref, truth in images:
            image = read_ref(ref)
            if not seconds:
                propose(image, source, limits)  # compiles kernels and loads files, which only the first image waits for
            began = time.perf_counter()
            found = propose(image, source, limits)
            seconds.append(time.perf_counter() - began)
            pairs.append((found.boxes, truth))
            bar.advance()
    return place(name, pairs, 1000 * float(np.median(seconds)) if seconds else float("nan"))


def place(name: str, pairs: Sequence[tuple[Boxes, GroundTruth]], milliseconds: float = float("nan")) -> Place:
    """The figures of given boxes of every image, best first.

    Raises:
        NoObjectsError: there are no objects to cover.
    """
    coverage = cover(pairs, COUNTS)
    lines = coverage.figures()
    return Place(
        name,
        lines[-1].mean_boxes,
        tuple(line.average_recall for line in lines),
        lines[-1].average_recall_hosang,
        lines[-1].mean_average_best_overlap,
        lines[-1].ceiling,
        {size: _recall(coverage, size) for size in SIZES},
        milliseconds,
    )


def _recall(coverage: Coverage, size: str) -> float:
    which = coverage.of_size(size)
    return coverage.figures(which)[-1].recall_50 if which.any() else float("nan")
