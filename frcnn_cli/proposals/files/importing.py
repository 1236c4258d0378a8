"""From a box file and a set of images to proposals: read, match, understand, mend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.annotations import GroundTruth
from frcnn_cli.errors import FileFormatError, FrcnnError, MismatchError
from frcnn_cli.image import ImageRecord, ImageRef
from frcnn_cli.proposals.files import ENDINGS
from frcnn_cli.proposals.files.boxfile import BoxFile
from frcnn_cli.proposals.files.convention import SLACK, Convention, Entry, Finding, find_convention
from frcnn_cli.proposals.files.matching import match
from frcnn_cli.proposals.source import Proposals

OnBad = Literal["error", "drop", "clip"]


def read_box_file(path: Path) -> BoxFile:
    """Any file of `frcnn_cli.proposals.files`, by its ending.

    Raises:
        FileFormatError: an ending that is not known, or what the reader finds wrong.
    """
    with _named(path):
        file = _read(path)
    if file.names is not None and any(not name for name in file.names):
        raise FileFormatError(f"{path} has an entry without a name", "Name each image")

    def read(i: int) -> NDArray[np.float64]:
        with _named(path):
            return file.read(i)

    return replace(file, read=read)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Whatever a damaged file surprises its reader with becomes one line that names the file."""
    try:
        yield
    except FrcnnError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise FileFormatError(f"{path} cannot be read ({reason})", "Write it again") from error


def _read(path: Path) -> BoxFile:
    from frcnn_cli.proposals.files import matlab, pickles, tables

    if path.is_dir():
        return matlab.read_folder(path)
    match path.suffix.lower():
        case ".h5":
            return tables.read_ours(path)
        case ".npz":
            return tables.read_npz(path)
        case ".csv" | ".tsv":
            return tables.read_csv(path)
        case ".json":
            return tables.read_json(path)
        case ".mat":
            return matlab.read_mat(path)
        case ".pkl" | ".pickle":
            return pickles.read_pickle(path)
    raise FileFormatError(f"{path} ends in none of {' '.join(ENDINGS)}", "Rename it to say what it is")


@dataclass
class Troubles:
    """Boxes that cannot be as they are, by kind: how many, and the first."""

    counts: dict[str, int] = field(default_factory=dict)
    cut: int = 0  # of them, those that were cut to their image
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, where: NDArray[np.bool_], key: str, rows: NDArray[np.float64]) -> None:
        if where.any():
            self.counts[kind] = self.counts.get(kind, 0) + int(where.sum())
            i = int(np.flatnonzero(where)[0])
            self.examples.setdefault(kind, f"{key}, box {i}: {' '.join(f'{v:g}' for v in rows[i, :4])}")

    def __str__(self) -> str:
        return "; ".join(f"{count} {kind} ({self.examples[kind]})" for kind, count in self.counts.items())


@dataclass(frozen=True)
class Import:
    """A box file understood: which entry is which image's, and what its numbers mean.

    entries: of each image, the index in the file; None where it has none.
    unused: names (or numbers) of entries that are of no image.
    """

    file: BoxFile
    entries: Sequence[int | None]
    matched: str
    unused: Sequence[str]
    finding: Finding

    @property
    def convention(self) -> Convention:
        return self.finding.convention


def understand(
    file: BoxFile,
    refs: Sequence[ImageRef],
    records: Sequence[ImageRecord],
    truths: Sequence[GroundTruth] | None,
    stated: Mapping[str, Any],
) -> Import:
    """Matches entries with images, and finds the convention.

    Args:
        refs, records, truths: of each image, in the order of the data set.
        stated: fields of `Convention` that the user states; they win over what the file tells.

    Raises:
        MismatchError: another number of entries than images where only order tells, no entry of any image, or another
            picture than the boxes were made from.
    """
    if file.names is None:
        if file.count != len(refs):
            raise MismatchError(
                f"{file.path} has boxes of {file.count} images, without names, and the data set has {len(refs)}",
                "Name the data set and split that it was made from: only their order tells which is which",
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
                    f"{file.path}: {record.key!r} is another picture than the boxes were made from",
                    "Name the images that they were made from",
                )
    used = set(entries)
    unused = [file.names[i] if file.names else str(i) for i in range(file.count) if i not in used]
    told = {**file.told, **stated}
    if told.keys() == vars(Convention()).keys():
        return Import(file, entries, matched, unused, Finding(Convention(**told), dict.fromkeys(told, "told")))
    seen = [
        Entry(file.read(i), record.width, record.height, truths[n] if truths is not None else None)
        for n, (record, i) in enumerate(zip(records, entries, strict=True))
        if i is not None
    ]
    return Import(file, entries, matched, unused, find_convention(seen, told))


def proposals_of(
    rows: NDArray[np.float64], convention: Convention, key: str, width: int, height: int, on_bad: OnBad, bad: Troubles
) -> Proposals:
    """One image's rows as proposals; what is bad is counted in `bad`, and dropped or clipped.

    Args:
        on_bad: "clip" cuts boxes to the image and drops what has no area then; "drop" drops all that is not wholly
            inside; "error" does as "drop" does, and whoever asked looks into `bad`.
    """
    limits = np.array([width, height, width, height], np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        exact = convention.to_boxes(rows, width, height)
        # What is judged is what is kept: float32, and a corner that is off by its rounding alone is on the border.
        boxes = np.where(np.abs(exact - limits) < SLACK, limits, np.where(np.abs(exact) < SLACK, 0, exact))
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
    bad.cut += int((keep & outside).sum())
    return Proposals(boxes[keep], None if scores is None else scores[keep])


def import_boxes(
    found: Import, records: Sequence[ImageRecord], on_bad: OnBad, without: Literal["error", "empty"], bad: Troubles
) -> Iterator[tuple[ImageRecord, Proposals]]:
    """The proposals of each image, in the order of the data set.

    Args:
        without: what an image without entry gets: an error, or no boxes.
        bad: filled with what was dropped or clipped; complete when the iteration is.

    Raises:
        FrcnnError: bad boxes with `on_bad` "error" (all are counted first), or images without entry.
    """
    absent = [record.key for record, i in zip(records, found.entries, strict=True) if i is None]
    if absent and without == "error":
        raise MismatchError(
            f"{found.file.path} has no boxes for {len(absent)} of the {len(records)} images, e.g. {absent[0]!r}",
            "Name the split that it was made from, or give those images no boxes with --without empty",
        )
    if on_bad == "error":
        for record, i in zip(records, found.entries, strict=True):
            if i is not None:
                proposals_of(found.file.read(i), found.convention, record.key, record.width, record.height, on_bad, bad)
        if bad.counts:
            raise FrcnnError(
                f"{found.file.path}, read as {found.convention}: {bad}",
                "If that reading is wrong, state --order, --base, --end or --relative; else --on-bad drop or clip",
            )
    scored = any(i is not None and found.file.read(i).shape[1] == 5 for i in found.entries)
    for record, i in zip(records, found.entries, strict=True):
        rows = np.zeros((0, 5 if scored else 4)) if i is None else found.file.read(i)
        yield record, proposals_of(rows, found.convention, record.key, record.width, record.height, on_bad, bad)
