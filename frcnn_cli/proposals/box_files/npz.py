"""`.npz`: one array [N, 4], or [N, 5] with scores, per image, under the name of the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.proposals.box_files.box_file import BoxFile, as_rows
from frcnn_cli.system.npz import NpzFile


def read_npz(path: Path) -> BoxFile:
    """Named arrays. Raises FileFormatError; for an array, when it is read."""
    file = NpzFile(path)
    names = file.names

    def read(i: int) -> NDArray[np.float64]:
        return as_rows(file.read(names[i]), f"{path}: {names[i]}.npy")

    return BoxFile(path, ".npz by image", len(names), read, names)
