"""The rows of one wide column, written once, to their position in the finished HDF5 file.

Most of what a run writes are conv maps; writing them to a journal first and then to the HDF5 file takes twice the time
and space. So they are written end to end into a file that becomes the HDF5 file: its first `HEAD` bytes stay free, and
when all rows are written, HDF5 lays out a file with a hole for them (`lay_out`, `make_room`), whose bytes before and
after the hole are copied around the rows (`put_around`). Nothing reads the file as HDF5 before that, so nothing is lost
if the process is killed. Until it is completed, the file starts with `MAGIC`.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.files import open_own
from frcnn_cli.system.disk import allocate

MAGIC = b"frcnn-rows-1\n"
HEAD = 4096  # bytes before the rows: HDF5's superblock and root group, a few hundred bytes


@dataclass(frozen=True)
class Place:
    """The position of an image's rows, and their checksum."""

    offset: int
    bytes: int
    checksum: int


class Rows:
    """The file of rows. Its user holds the lock and records the places."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self.path = path
        self._file = open_own(path)
        self._end = HEAD
        if not os.fstat(self._file.fileno()).st_size:
            self._put(MAGIC, 0)

    def is_marked(self) -> bool:
        """Whether the file starts with `MAGIC`."""
        return os.pread(self._file.fileno(), len(MAGIC), 0) == MAGIC

    @property
    def size(self) -> int:
        """The size of the file in bytes."""
        return self._end

    def keep(self, places: list[Place]) -> None:
        """Drops everything after the last of these places; writing continues there."""
        self._end = max((place.offset + place.bytes for place in places), default=HEAD)
        self._file.truncate(self._end)
        self._put(MAGIC, 0)

    def append(self, rows: NDArray[Any], checksum: int) -> Place:
        """Appends rows. Raises OSError if the disk is full; earlier rows are kept."""
        raw = np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data
        place = Place(self._end, len(raw), checksum)
        try:
            self._put(raw, place.offset)
        except OSError:
            self._file.truncate(self._end)
            raise
        self._end += len(raw)
        return place

    def read(self, place: Place) -> bytes:
        return os.pread(self._file.fileno(), place.bytes, place.offset)

    def holds(self, place: Place) -> bool:
        """Whether the rows exist and are not damaged."""
        raw = self.read(place)
        return len(raw) == place.bytes and zlib.crc32(raw) == place.checksum

    def put_around(self, skeleton: Path) -> None:
        """Completes the file with the bytes before and after the rows, from an HDF5 file laid out for them.

        Raises OSError; the rows are kept.
        """
        with open(skeleton, "rb") as file:
            tail = os.fstat(file.fileno()).st_size - self._end
            allocate(self._file.fileno(), self._end, tail)
            self._put(file.read(HEAD), 0)
            file.seek(self._end)
            while block := file.read(1 << 20):
                self._put(block, file.tell() - len(block))
        os.fsync(self._file.fileno())

    def _put(self, raw: bytes | memoryview, offset: int) -> None:
        written = 0
        while written < len(raw):
            written += os.pwrite(self._file.fileno(), raw[written:], offset + written)

    def close(self) -> None:
        self._file.close()

    def remove(self) -> None:
        """Deletes the file, unless it was renamed."""
        self.path.unlink(missing_ok=True)
        self.close()


def lay_out(path: Path) -> h5py.File:
    """A new HDF5 file in which datasets of at least `HEAD` bytes start at multiples of `HEAD`."""
    return h5py.File(path, "w", libver="v110", alignment_threshold=HEAD, alignment_interval=HEAD)


def make_room(file: h5py.File, name: str, shape: tuple[int, ...], dtype: str) -> bool:
    """Creates the dataset of the rows without writing to it; returns whether it starts at `HEAD`, as the first dataset
    of a file does if it is at least that large."""
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    dataset = file.create_dataset(name, shape, dtype, dcpl=layout)
    return bool(dataset.id.get_offset() == HEAD)
