"""The output of frcnn recall: tables, or one JSON value; and the objects that proposals are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frcnn_cli.cli.common import arguments
from frcnn_cli.cli.common.console import Console
from frcnn_cli.core.errors import DataError

if TYPE_CHECKING:
    from frcnn_cli.core.annotations import GroundTruth
    from frcnn_cli.core.image import ImageRecord
    from frcnn_cli.data.dataset import Dataset
    from frcnn_cli.data.small_objects import Advice
    from frcnn_cli.proposals.recall import Coverage, Recall

_COLUMNS = ("recall 0.5", "recall 0.7", "AR COCO", "AR Hosang", "ABO", "MABO", "ceiling")


@dataclass(frozen=True)
class Objects:
    """The objects to cover: those of a data set, or the boxes of another proposals file (`records` and `truths`)."""

    title: str
    bad_boxes: str
    dataset: Dataset | None = None
    records: Sequence[ImageRecord] = ()
    truths: Sequence[GroundTruth] = ()

    @classmethod
    def read(
        cls, data: str, split: str | None, bad_boxes: str, size_mismatch: str, classes: str | None, props: Path
    ) -> Objects:
        """
        Args:
            data: the text that names a data set, or the path of a proposals file.
            props: a file whose images determine the split if none is named.
        """
        from frcnn_cli.store.schema import PROPOSALS
        from frcnn_cli.store.stage import open_stage

        if not data.endswith(".h5"):
            with open_stage(props, PROPOSALS) as file:
                covered = file.images
            dataset = arguments.dataset(data, split, bad_boxes, classes, covered, size_mismatch)
            return cls(dataset.title, bad_boxes, dataset)
        import numpy as np

        from frcnn_cli.core.annotations import GroundTruth

        with open_stage(data, PROPOSALS) as file:
            truths = [GroundTruth(a["boxes"], np.zeros(len(a["boxes"]), np.int64)) for _, a in file]
            return cls(data, bad_boxes, None, file.images, truths)

    @property
    def images(self) -> int:
        return len(self.records) if self.dataset is None else len(self.dataset)

    @property
    def classes(self) -> tuple[str, ...]:
        return () if self.dataset is None else self.dataset.classes

    def coverage(self, props: Path, counts: Sequence[int]) -> tuple[Coverage, list[Advice]]:
        """How well a proposals file covers the objects, and what costs small ones. Raises DataError without objects."""
        from frcnn_cli.data.pairing import pair, proposed_samples
        from frcnn_cli.data.small_objects import advice_on_small_objects
        from frcnn_cli.proposals.recall import NoObjectsError, cover
        from frcnn_cli.store.join import join
        from frcnn_cli.store.schema import PROPOSALS
        from frcnn_cli.store.stage import open_stage

        with open_stage(props, PROPOSALS) as file:
            if self.dataset is not None:
                pairing = pair(self.dataset, file, self.bad_boxes)
                rows, samples = pairing.rows, proposed_samples(pairing, file)
                pairs = [(sample.proposals, sample.truth) for sample in samples]
            else:
                rows = join(self.records, file.images, self.title, str(props))
                pairs = [(file[row]["boxes"], truth) for row, truth in zip(rows, self.truths, strict=True)]
            records = [file.images[row] for row in rows]
            advice = advice_on_small_objects((truth for _, truth in pairs), records, file.provenance)
        try:
            return cover(pairs, counts), advice
        except NoObjectsError:
            lacking = "" if self.dataset is None else self.dataset.lacks_objects()
            raise DataError(lacking or f"{self.title} has no objects", "Name another split") from None


def print_coverage(
    console: Console, found: dict[str, Coverage], objects: Objects, title: str, by: Sequence[str]
) -> None:
    """Prints a table by number of boxes, and one per entry of `by`; with several files, each row names its file."""
    from frcnn_cli.proposals.recall import SIZES, THRESHOLDS

    file = ("file",) if len(found) > 1 else ()
    largest = next(iter(found.values())).counts[-1]
    lines = {name: coverage.figures() for name, coverage in found.items()}
    rows = [
        (str(line.count), *((name,) if file else ()), f"{line.mean_boxes:.0f}", *_figures(line))
        for of_count in zip(*lines.values(), strict=True)
        for name, line in zip(lines, of_count, strict=True)
    ]
    console.table(("boxes", *file, "kept", *_COLUMNS), rows, title=title, left=1 + len(file))
    for kind in dict.fromkeys(by):
        if kind == "iou":
            rows = [(name, *(f"{r:.3f}" for r in coverage.at_iou()[-1])) for name, coverage in found.items()]
            heads = ("file", *(f"{t:.2f}" for t in THRESHOLDS))
            console.table(heads, rows, title=f"recall by IoU, {largest} boxes per image")
            continue
        rows = []
        for group in objects.classes if kind == "class" else SIZES:
            for name, coverage in found.items():
                line = _of_group(coverage, kind, group, objects)
                if line is not None:
                    rows.append((group, *((name,) if file else ()), str(line.objects), *_figures(line)))
        heads = (kind, *file, "objects", *_COLUMNS)
        console.table(heads, rows, title=f"by {kind}, {largest} boxes per image", left=1 + len(file))


def coverage_as_json(path: Path, coverage: Coverage, objects: Objects) -> dict[str, Any]:
    """The coverage of one file as JSON, with all tables."""
    from frcnn_cli.proposals.recall import SIZES, THRESHOLDS

    groups = {
        kind: {group: _of_group(coverage, kind, group, objects) for group in names}
        for kind, names in (("class", objects.classes), ("size", SIZES))
    }
    return {
        "props": str(path),
        "images": objects.images,
        "recall": [asdict(line) for line in coverage.figures()],
        "iou": {f"{t:.2f}": float(r) for t, r in zip(THRESHOLDS, coverage.at_iou()[-1], strict=True)},
        **{kind: {name: asdict(line) for name, line in lines.items() if line} for kind, lines in groups.items()},
    }


def _of_group(coverage: Coverage, kind: str, group: str, objects: Objects) -> Recall | None:
    """The figures of a class or size at the largest number of boxes; None if it has no objects."""
    which = coverage.of_class(objects.classes.index(group)) if kind == "class" else coverage.of_size(group)
    return coverage.figures(which)[-1] if which.any() else None


def _figures(line: Recall) -> tuple[str, ...]:
    values = (
        *(line.recall_50, line.recall_70, line.average_recall, line.average_recall_hosang),
        *(line.average_best_overlap, line.mean_average_best_overlap, line.ceiling),
    )
    return tuple(f"{value:.3f}" for value in values)
