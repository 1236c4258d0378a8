"""The formats of vectors, by name, besides the .h5 of frcnn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from frcnn_cli.detections.vectors.arrays import read_folders, read_npz, write_folders, write_npz
from frcnn_cli.detections.vectors.box_vectors import BoxVectors
from frcnn_cli.detections.vectors.tsv import read_bottom_up, read_lxmert, write_bottom_up, write_lxmert


class VectorFormat(NamedTuple):
    """How a format is read and written. path: what a path of this format names, for help."""

    read: Callable[[Path], Iterator[BoxVectors]]
    write: Callable[[Iterable[BoxVectors], Path], int]
    path: str


VECTOR_FORMATS = {
    "bottom-up": VectorFormat(read_bottom_up, write_bottom_up, "a .tsv of bottom-up-attention"),
    "lxmert": VectorFormat(read_lxmert, write_lxmert, "a .tsv of LXMERT"),
    "npz": VectorFormat(read_npz, write_npz, "a folder with one .npz per image"),
    "folders": VectorFormat(
        read_folders, write_folders, "the beginning of the names of three folders: NAME_att, NAME_fc, NAME_box"
    ),
}
