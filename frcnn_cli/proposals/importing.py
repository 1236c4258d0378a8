"""A box file of another tool -> a proposals file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from frcnn_cli.core.annotations import GroundTruth
from frcnn_cli.core.decoding import read_record
from frcnn_cli.core.image import ImageRef
from frcnn_cli.proposals.box_files.interpreting import BadBoxes, Interpretation, OnBad, interpret, read_proposals
from frcnn_cli.proposals.box_files.reading import read_box_file
from frcnn_cli.proposals.limits import Limits, best_of
from frcnn_cli.proposals.run import to_columns
from frcnn_cli.proposals.sources.file import FileSource
from frcnn_cli.store.schema import PROPOSALS
from frcnn_cli.store.writer import StageWriter
from frcnn_cli.system.prefetch import prefetch


@dataclass(frozen=True)
class ImportSummary:
    """What `import_boxes` did. images, boxes: written; duplicates: boxes that equal another of their image."""

    interpretation: Interpretation
    images: int
    boxes: int
    duplicates: int
    bad: BadBoxes


def import_boxes(
    path: Path,
    output: Path,
    refs: Sequence[ImageRef],
    truths: Sequence[GroundTruth] | None = None,
    stated: Mapping[str, Any] | None = None,
    on_bad: OnBad = "error",
    without: Literal["error", "empty"] = "error",
    force: bool = False,
    on_interpreted: Callable[[Interpretation], None] = lambda interpretation: None,
) -> ImportSummary:
    """Reads a box file of another tool and writes a proposals file.

    Args:
        path: the box file, or a folder with a file per image.
        refs: the images, in the order of the data set. truths: their objects, which help to detect the convention.
        stated: fields of `Convention` that are known: order, base, inclusive, relative.
        on_bad: see `proposals_of`. without: see `read_proposals`.
        on_interpreted: called with how the file is understood, before its boxes are validated.

    Raises:
        FrcnnError: a file that cannot be read, that does not match the images, or with bad boxes.
    """
    records = list(prefetch(read_record, refs, threads=4, ahead=16))
    interpretation = interpret(read_box_file(path), refs, records, truths, stated or {})
    on_interpreted(interpretation)
    bad = BadBoxes()
    imported = list(read_proposals(interpretation, records, on_bad, without, bad))
    limits = Limits(max((len(proposals.boxes) for _, proposals in imported), default=0) or 1, 0.0)
    source = FileSource(path, **vars(interpretation.convention))
    provenance = {"source": source.described(), **limits._asdict(), "on_bad": on_bad}
    boxes = duplicates = 0
    with StageWriter(output, PROPOSALS, provenance, force) as out:
        for record, proposals in imported:
            kept = best_of(proposals, limits)
            boxes += len(kept.boxes)
            duplicates += len(proposals.boxes) - len(kept.boxes)
            out.add(record, to_columns(kept))
        out.finish()
    return ImportSummary(interpretation, len(records), boxes, duplicates, bad)
