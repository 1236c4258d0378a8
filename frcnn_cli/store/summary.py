"""The outcome of a stage that wrote a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from frcnn_cli.core.errors import FrcnnError


@dataclass(frozen=True)
class StageSummary:
    """What a stage did.

    output: the file that was written. images: the images in it.
    computed: the images that this run computed. skipped: those that an earlier run had finished.
    rows: the rows (boxes, cells) that this run computed. seconds: the duration of this run.
    failed: by key, the errors of images that could not be processed.
    busy: the fraction of the time that the network computed; 0 for stages without a network.
    """

    output: Path
    images: int
    computed: int
    skipped: int
    rows: int
    seconds: float
    failed: Mapping[str, FrcnnError] = field(default_factory=dict)
    busy: float = 0.0
