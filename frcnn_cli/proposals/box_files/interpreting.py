"""From the rows of a box file to proposals: match entries with images, detect the convention, validate the boxes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.annotations import GroundTruth
from frcnn_cli.core.convention import TOLERANCE, Convention, Entry, Finding, detect_convention
from frcnn_cli.core.errors import FrcnnError, MismatchError
from frcnn_cli.core.image import ImageRecord, ImageRef
from frcnn_cli.proposals.box_files.box_file import BoxFile
from frcnn_cli.proposals.box_files.matching import match
from frcnn_cli.proposals.source import Proposals

OnBad = Literal["error", "drop", "clip"]


@dataclass
class BadBoxes:
    """Boxes that cannot be used as they are: by kind, their number and the first one. clipped: their number."""

    counts: dict[str, int] = field(default_factory=dict)
    clipped: int = 0
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, where: NDArray[np.bool_], key: str, rows: NDArray[np.float64]) -> None:
        """Counts the rows selected by a mask."""
        if where.any():
            self.counts[kind] = self.counts.get(kind, 0) + int(where.sum())
            i = int(np.flatnonzero(where)[0])
            self.examples.setdefault(kind, f"{key}, box {i}: {' '.join(f'{v:g}' for v in rows[i, :4])}")

    @property
    def dropped(self) -> int:
        return sum(self.counts.values()) - self.clipped

    def __str__(self) -> str:
        return "; ".join(f"{count} {kind} ({self.examples[kind]})" for kind, count in self.counts.items())


@dataclass(frozen=True)
class Interpretation:
    """A box file whose entries are matched with images and whose convention is known.

    entries: for each image, the index of its entry; None if it has none.
    matched: how the entries were matched, for people.
    unused: names (or numbers) of entries that belong to no image.
    """

    file: BoxFile
    entries: Sequence[int | None]
    matched: str
    unused: Sequence[str]
    finding: Finding

    @property
    def convention(self) -> Convention:
        return self.finding.convention


def interpret(
    file: BoxFile,
    refs: Sequence[ImageRef],
    records: Sequence[ImageRecord],
    truths: Sequence[GroundTruth] | None,
    stated: Mapping[str, Any],
) -> Interpretation:
    """Matches the entries of a box file with images, and detects its convention.

    Args:
        refs, records, truths: of each image, in the order of the data set.
        stated: fields of `Convention` that the user states; they take precedence over what the file states.

    Raises:
        MismatchError: the numbers of entries and images differ and only the order identifies them, no entry belongs to
            an image, or the boxes were computed from other images.
    """
    if file.names is None:
        if file.count != len(refs):
            raise MismatchError(
                f"{file.path} has boxes of {file.count} images, without names, but the data set has {len(refs)} images",
                "Name the data set and split that it was made from: only the order identifies the images",
            )
        entries: list[int | None] = list(range(file.count))
        matched = "by order"
    else:
        try:
            entries, matched = match(file.names, refs)
        except MismatchError as error:
            raise MismatchError(f"{file.path}: {error.what}", error.fix) from None
    if file.records is not None:
        for record, i in zip(records, entries, strict=True):
            if i is not None and file.records[i].digest != record.digest:
                raise MismatchError(
                    f"{file.path}: {record.key!r} is another image than the one that the boxes were computed from",
                    "Name the images that they were computed from",
                )
    used = set(entries)
    unused = [file.names[i] if file.names else str(i) for i in range(file.count) if i not in used]
    known = {**file.stated, **stated}
    if known.keys() == vars(Convention()).keys():
        finding = Finding(Convention(**known), dict.fromkeys(known, "stated"))
        return Interpretation(file, entries, matched, unused, finding)
    seen = [
        Entry(file.read(i), record.width, record.height, truths[n] if truths is not None else None)
        for n, (record, i) in enumerate(zip(records, entries, strict=True))
        if i is not None
    ]
    return Interpretation(file, entries, matched, unused, detect_convention(seen, known))


def proposals_of(
    rows: NDArray[np.float64], convention: Convention, key: str, width: int, height: int, on_bad: OnBad, bad: BadBoxes
) -> Proposals:
    """The rows of one image as proposals; bad boxes are counted in `bad`, and dropped or clipped.

    Args:
        on_bad: "clip" clips boxes to the image and drops those without area; "drop" drops all boxes that are not
            completely inside; "error" does the same as "drop", and the caller checks `bad`.
    """
    limits = np.array([width, height, width, height], np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        exact = convention.to_boxes(rows, width, height)
        # Boxes are checked after rounding to float32; corners that differ from the border only by rounding are on it.
        boxes = np.where(np.abs(exact - limits) < TOLERANCE, limits, np.where(np.abs(exact) < TOLERANCE, 0, exact))
        boxes = boxes.astype(np.float32)
        scores = rows[:, 4].astype(np.float32) if rows.shape[1] == 5 else None
    finite = np.asarray(np.isfinite(boxes).all(axis=1))
    if scores is not None:
        finite &= np.isfinite(scores)
    boxes = np.where(finite[:, None], boxes, np.float32(0))
    inverted = finite & ((boxes[:, 2:] < boxes[:, :2]).any(axis=1))
    empty = finite & ~inverted & (boxes[:, 2:] == boxes[:, :2]).any(axis=1)
    outside = finite & ~inverted & ~empty & ((boxes < 0) | (boxes > limits)).any(axis=1)
    bad.add("not finite", ~finite, key, rows)
    bad.add("inverted", inverted, key, rows)
    bad.add("without area", empty, key, rows)
    bad.add("outside the image", outside, key, rows)
    boxes = np.clip(boxes, 0, limits).astype(np.float32)
    keep = finite & ~inverted & ~empty
    keep &= (boxes[:, 2:] > boxes[:, :2]).all(axis=1) if on_bad == "clip" else ~outside
    bad.clipped += int((keep & outside).sum())
    return Proposals(boxes[keep], None if scores is None else scores[keep])


def read_proposals(
    interpretation: Interpretation,
    records: Sequence[ImageRecord],
    on_bad: OnBad,
    without: Literal["error", "empty"],
    bad: BadBoxes,
) -> Iterator[tuple[ImageRecord, Proposals]]:
    """The proposals of each image, in the order of the data set.

    Args:
        without: whether an image without an entry is an error, or gets no boxes.
        bad: receives the boxes that were dropped or clipped; complete after the iteration.

    Raises:
        FrcnnError: bad boxes with `on_bad` "error" (all are counted first), or images without an entry.
    """
    file, convention = interpretation.file, interpretation.convention
    absent = [record.key for record, i in zip(records, interpretation.entries, strict=True) if i is None]
    if absent and without == "error":
        raise MismatchError(
            f"{file.path} has no boxes for {len(absent)} of the {len(records)} images, e.g. {absent[0]!r}",
            "Name the split that it was made from, or give those images no boxes with --without empty",
        )
    if on_bad == "error":
        for record, i in zip(records, interpretation.entries, strict=True):
            if i is not None:
                proposals_of(file.read(i), convention, record.key, record.width, record.height, on_bad, bad)
        if bad.counts:
            raise FrcnnError(
                f"{file.path}, read as {convention}: {bad}",
                "If it is not in that convention, state --order, --base, --end or --relative; else use --on-bad drop or"
                " clip",
            )
    scored = any(i is not None and file.read(i).shape[1] == 5 for i in interpretation.entries)
    for record, i in zip(records, interpretation.entries, strict=True):
        rows = np.zeros((0, 5 if scored else 4)) if i is None else file.read(i)
        yield record, proposals_of(rows, convention, record.key, record.width, record.height, on_bad, bad)
