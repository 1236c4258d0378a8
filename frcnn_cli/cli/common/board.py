"""The board of frcnn recall: sources and files of proposals side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frcnn_cli.cli.common import arguments
from frcnn_cli.cli.common.console import Console, json_number, three_digits
from frcnn_cli.core.errors import DataError, UsageError

if TYPE_CHECKING:
    from frcnn_cli.data.dataset import Dataset
    from frcnn_cli.proposals.board import Place
    from frcnn_cli.proposals.source import ProposalSource

HEADS = (
    *("source", "boxes", "AR 10", "AR 100", "AR 1000", "AR Hosang", "MABO"),
    *("recall small", "medium", "large", "oracle mAP", "ms per image"),
)


def make_board(
    console: Console, dataset: Dataset, props: Sequence[Path], sources: Sequence[str], bad_boxes: str
) -> list[Place]:
    """The places of all sources and files, the best AR at 1,000 boxes first."""
    from frcnn_cli.core.decoding import read_record
    from frcnn_cli.data.pairing import pair, proposed_samples
    from frcnn_cli.proposals.board import place, run_source
    from frcnn_cli.proposals.recall import NoObjectsError
    from frcnn_cli.store.schema import PROPOSALS
    from frcnn_cli.store.stage import open_stage
    from frcnn_cli.system.prefetch import prefetch

    configured = [(text, _source(text)) for text in sources]
    places = []
    try:
        for path in props:
            with open_stage(path, PROPOSALS) as file:
                samples = proposed_samples(pair(dataset, file, bad_boxes), file)
                places.append(place(str(path), [(sample.proposals, sample.truth) for sample in samples]))
        if configured:
            fitted = dataset.within(prefetch(read_record, dataset.refs, threads=4, ahead=16), bad_boxes)
            images = [(sample.ref, sample.truth) for sample in fitted.samples]
            places += [run_source(text, source, images, progress=console) for text, source in configured]
    except NoObjectsError:
        raise DataError(dataset.lacks_objects() or f"{dataset.title} has no objects", "Name another split") from None
    return sorted(places, key=lambda one: -one.average_recall[-1])


def _source(text: str) -> ProposalSource:
    """A source with its options: `NAME`, or `NAME,KEY=VALUE,...`."""
    name, *pairs = text.split(",")
    if not all("=" in pair for pair in pairs):
        raise UsageError(f"--source {text} cannot be read", "Write NAME, or NAME,KEY=VALUE,KEY=VALUE")
    return arguments.source((name,), tuple(pairs))


def board_as_json(places: Sequence[Place]) -> list[dict[str, Any]]:
    """The places as JSON."""
    return [_without_nan(asdict(one)) for one in places]


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(one) for one in value]
    return json_number(value) if isinstance(value, float) else value


def board_rows(places: Sequence[Place]) -> list[tuple[str, ...]]:
    """A row per place, in the order of `HEADS`."""
    return [
        (
            one.name,
            f"{one.boxes:.0f}",
            *map(three_digits, one.average_recall),
            three_digits(one.average_recall_hosang),
            three_digits(one.mean_average_best_overlap),
            *map(three_digits, one.recall_by_size.values()),
            three_digits(one.oracle),
            f"{one.milliseconds:.1f}" if one.milliseconds == one.milliseconds else "–",
        )
        for one in places
    ]


def board_as_markdown(places: Sequence[Place]) -> str:
    """The board as a table in Markdown."""
    lines = [HEADS, tuple("---" for _ in HEADS), *board_rows(places)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
