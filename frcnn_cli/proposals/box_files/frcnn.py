"""Proposals files of frcnn as box files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.convention import OURS
from frcnn_cli.proposals.box_files.box_file import BoxFile
from frcnn_cli.store.schema import PROPOSALS
from frcnn_cli.store.stage import open_stage


def read_frcnn(path: Path) -> BoxFile:
    """A proposals file that frcnn wrote. Raises FileFormatError."""
    file = open_stage(path, PROPOSALS)

    def read(i: int) -> NDArray[np.float64]:
        arrays = file[i]
        columns = [arrays["boxes"]] + ([arrays["scores"][:, None]] if "scores" in arrays else [])
        return np.concatenate(columns, axis=1).astype(np.float64)

    names = [image.key for image in file.images]
    return BoxFile(path, "proposals of frcnn", len(file), read, names, vars(OURS), file.images)
