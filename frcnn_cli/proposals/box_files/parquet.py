"""`.parquet`: a table of proposals that `frcnn export --format parquet` wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.convention import OURS
from frcnn_cli.core.errors import FileFormatError
from frcnn_cli.proposals.box_files.box_file import BoxFile, rows_of
from frcnn_cli.proposals.source import Proposals
from frcnn_cli.store.parquet import read_parquet
from frcnn_cli.store.schema import PROPOSALS


def read_table(path: Path) -> BoxFile:
    """Raises FileFormatError: a table of something else."""
    fmt, _, images = read_parquet(path)
    if fmt is not PROPOSALS:
        raise FileFormatError(f"{path} is a table of {fmt.name}, not of proposals", "Name a table of proposals")
    found = [(record, Proposals(arrays["boxes"], arrays.get("scores"))) for record, arrays in images]
    records = [record for record, _ in found]

    def read(i: int) -> NDArray[np.float64]:
        return rows_of(found[i][1]).astype(np.float64)

    return BoxFile(path, ".parquet", len(found), read, [record.key for record in records], vars(OURS), records)
