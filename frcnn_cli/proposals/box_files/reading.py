"""Reading a box file in any of the formats."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.errors import FileFormatError, FrcnnError
from frcnn_cli.proposals.box_files.box_file import ENDINGS, BoxFile
from frcnn_cli.proposals.box_files.csv import read_csv
from frcnn_cli.proposals.box_files.frcnn import read_frcnn
from frcnn_cli.proposals.box_files.json import read_json_boxes
from frcnn_cli.proposals.box_files.matlab import read_folder, read_mat
from frcnn_cli.proposals.box_files.npz import read_npz
from frcnn_cli.proposals.box_files.parquet import read_table
from frcnn_cli.proposals.box_files.pickles import read_pickle

_READERS = {
    ".h5": read_frcnn,
    ".npz": read_npz,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".json": read_json_boxes,
    ".mat": read_mat,
    ".pkl": read_pickle,
    ".pickle": read_pickle,
    ".parquet": read_table,
}


def read_box_file(path: Path) -> BoxFile:
    """Reads any of the formats of `frcnn_cli.proposals.box_files`; the ending of the file selects it.

    Raises:
        FileFormatError: an unknown ending, or whatever the reader finds wrong.
    """
    with _naming(path):
        file = _read(path)
    if file.names is not None and any(not name for name in file.names):
        raise FileFormatError(f"{path} has an entry without a name", "Name each image")

    def read(i: int) -> NDArray[np.float64]:
        with _naming(path):
            return file.read(i)

    return replace(file, read=read)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turns any exception of a reader into one line that names the file."""
    try:
        yield
    except FrcnnError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise FileFormatError(f"{path} cannot be read ({reason})", "Write it again") from error


def _read(path: Path) -> BoxFile:
    if path.is_dir():
        return read_folder(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise FileFormatError(f"{path} does not end in {' '.join(ENDINGS)}", "Rename it according to its format")
    return reader(path)
