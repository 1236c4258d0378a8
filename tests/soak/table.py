"""The cases and failures of a run, as a table."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field


@dataclass
class Row:
    """Counts of one kind of case. refused: ended in a one-line error. slowest: seconds."""

    cases: int = 0
    refused: int = 0
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0

    def add(self, refused: bool, seconds: float) -> None:
        self.cases += 1
        self.refused += refused
        self.slowest = max(self.slowest, seconds)


Table = defaultdict[str, Row]


def new_table() -> Table:
    return defaultdict(Row)


def printed(table: Table) -> str:
    """The table in Markdown, with a total."""
    lines = ["| | cases | one-line errors | failures | slowest |", "|---|---|---|---|---|"]
    rows = [*table.items(), ("all", _total(table))]
    for name, row in rows:
        lines.append(f"| {name} | {row.cases:,} | {row.refused:,} | {len(row.failures)} | {row.slowest:.2f} s |")
    return "\n".join(lines)


def _total(table: Table) -> Row:
    rows = table.values()
    failures = [failure for row in rows for failure in row.failures]
    slowest = max((row.slowest for row in rows), default=0.0)
    return Row(sum(row.cases for row in rows), sum(row.refused for row in rows), failures, slowest)
