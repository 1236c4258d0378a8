"""The journal of a stage in progress: an append-only file of finished images that survives `kill -9` at any moment.

An HDF5 file is unreliable after its writer was killed, so a stage appends each finished image to the journal, and the
HDF5 file is assembled at the end. Layout: `MAGIC`, then records, each `<length u64, crc32 u32>` and a payload of that
length: one line of JSON, then the raw bytes of the arrays. The first record describes the work (format and
provenance). On opening, everything after the last complete record is dropped. One wide column may be stored in a
separate file (see `rows`); the journal then records its position and checksum.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.checksum import checksum
from frcnn_cli.core.errors import FileFormatError, FrcnnError, explain_os_error
from frcnn_cli.core.files import open_own
from frcnn_cli.core.image import ImageRecord
from frcnn_cli.store.rows import HEAD, Place, Rows
from frcnn_cli.system.locks import try_lock

MAGIC = b"frcnn-journal-3\n"
_ANY_VERSION = b"frcnn-journal-"
_HEADER = struct.Struct("<QI")

Arrays = Mapping[str, NDArray[Any]]


def journal_of(output: Path) -> Path:
    """The path of the journal of an output file."""
    return output.with_name(output.name + ".partial")


class Described(NamedTuple):
    """What a journal records of an array besides its bytes."""

    dtype: str
    shape: tuple[int, ...]
    checksum: int


class Journal:
    """Finished images of one output file. Only one process can open it at a time (an advisory lock)."""

    def __init__(
        self, path: Path, identity: Mapping[str, Any], discard_other: bool = False, wide: str | None = None
    ) -> None:
        """Opens or creates the journal of the work that `identity` describes.

        Args:
            wide: the array whose rows are stored in a separate file, `PATH-rows`.
            discard_other: replace a journal of other work (other options, another model).

        Raises:
            FrcnnError: the path cannot be written, another process uses it, or it holds other work.
        """
        self.path = path
        self._wide = wide
        self._rows: Rows | None = None
        self._where: dict[str, tuple[ImageRecord, int]] = {}  # key -> record, offset of its payload
        try:
            self._file: BinaryIO = open_own(path)
        except OSError as error:
            raise explain_os_error(error, path) from None
        try:
            while not self._lock():
                self._file.close()
                self._file = open_own(path)
            self._open(json.loads(json.dumps(identity)), discard_other)
        except FrcnnError:
            self.close()
            raise
        except OSError as error:
            self.close()
            raise explain_os_error(error, path) from None

    def _lock(self) -> bool:
        """Locks the journal; returns False if another process has just deleted it, after finishing."""
        if not try_lock(self._file.fileno()):
            raise FrcnnError(f"another frcnn is writing {self.path}", "Wait for it, or choose another output path")
        with suppress(FileNotFoundError):
            return os.path.samestat(self.path.stat(), os.fstat(self._file.fileno()))
        return False

    def _open(self, identity: dict[str, Any], discard_other: bool) -> None:
        self._file.seek(0)
        start = self._file.read(len(MAGIC))
        if not MAGIC.startswith(start) and not (start.startswith(_ANY_VERSION) and discard_other):
            if start.startswith(_ANY_VERSION):
                raise FrcnnError(
                    f"{self.path} was left unfinished by another version of frcnn", "Add --force to discard it"
                )
            raise FrcnnError(
                f"{self.path} exists and was not written by frcnn", "Move it, or choose another output path"
            )
        records = list(scan(self._file))
        if self._wide is not None:
            self._rows = self._open_rows(records, of_other_version=bool(start) and start != MAGIC)
        same = bool(records) and self._payload_json(records[0][0]) == identity
        if not same:
            if len(records) > 1 and not discard_other:
                raise FrcnnError(
                    f"{self.path} holds {len(records) - 1} finished images of a run with other options or model",
                    "Run that command again to continue it (frcnn inspect shows it), or add --force to discard it",
                )
            self._file.seek(0)
            self._file.truncate()
            self._file.write(MAGIC)
            self._append(json.dumps(identity).encode() + b"\n")
            if self._rows:
                self._rows.keep([])
            return
        for offset, _ in records[1:]:
            head = self._payload_json(offset)
            if self._rows and not self._rows.holds(Place(**head["rows"])):
                continue
            image = ImageRecord(**head["image"])
            self._where[image.key] = (image, offset)
        if self._rows:
            self._rows.keep([self._place(key) for key in self._where])
        end = records[-1][0] + records[-1][1]
        self._file.truncate(end)
        self._file.seek(end)

    def _open_rows(self, records: list[tuple[int, int]], of_other_version: bool) -> Rows:
        rows = Rows(self.path.with_name(self.path.name + "-rows"))
        places = (self._payload_json(offset).get("rows") for offset, _ in records[1:])
        # A process that was killed while it completed the file leaves the head of an HDF5 file.
        if (
            not rows.is_marked()
            and not of_other_version
            and not any(place and rows.holds(Place(**place)) for place in places)
        ):
            rows.close()
            raise FrcnnError(
                f"{rows.path} exists and was not written by frcnn", "Move it, or choose another output path"
            )
        return rows

    @property
    def images(self) -> list[ImageRecord]:
        """The finished images, sorted by key."""
        return sorted(image for image, _ in self._where.values())

    def record_of(self, key: str) -> ImageRecord | None:
        found = self._where.get(key)
        return found[0] if found else None

    def forget(self, key: str) -> None:
        """Excludes an image, as if it had not been written (because its file has changed, or it is not needed)."""
        self._where.pop(key, None)

    def write(self, image: ImageRecord, arrays: Arrays) -> None:
        """Appends one finished image. Raises FrcnnError if the disk is full; earlier images are kept."""
        sums = {name: checksum(array) for name, array in arrays.items()}
        described = {name: [str(a.dtype), list(a.shape), sums[name]] for name, a in arrays.items()}
        head: dict[str, Any] = {"image": asdict(image), "arrays": described}
        raw = [np.ascontiguousarray(array).tobytes() for name, array in arrays.items() if name != self._wide]
        before = self._file.tell()
        try:
            if self._rows and self._wide:
                head["rows"] = asdict(self._rows.append(arrays[self._wide], sums[self._wide]))
            offset = self._append(json.dumps(head).encode() + b"\n", *raw)
        except OSError as error:
            self._cut_back(before)
            raise explain_os_error(error, self.path) from None
        self._where[image.key] = (image, offset)

    def read(self, key: str, only: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
        """The arrays of a finished image, or only those named in `only`."""
        offset = self._where[key][1]
        end = self._file.tell()
        self._file.seek(offset)
        head = json.loads(self._file.readline())
        arrays = {}
        for name, (dtype, shape, _) in head["arrays"].items():
            wanted, size = only is None or name in only, int(np.prod(shape)) * np.dtype(dtype).itemsize
            if name == self._wide:
                raw = self._rows.read(Place(**head["rows"])) if self._rows and wanted else b""
            else:
                raw = self._file.read(size)
            if wanted:
                arrays[name] = np.frombuffer(raw, dtype).reshape(shape)
        self._file.seek(end)
        return arrays

    def described(self, key: str) -> dict[str, Described]:
        """dtype, shape and checksum of each array of a finished image, without reading the arrays."""
        arrays = self._payload_json(self._where[key][1])["arrays"]
        return {name: Described(dtype, tuple(shape), total) for name, (dtype, shape, total) in arrays.items()}

    @property
    def size(self) -> int:
        """The number of bytes written."""
        return self.path.stat().st_size + (self._rows.size if self._rows else 0)

    def rows_of(self, keys: list[str]) -> Rows | None:
        """The file of the wide column, if it holds exactly the rows of these images, in this order; else None."""
        if self._rows is None:
            return None
        end = HEAD
        for place in map(self._place, keys):
            if place.offset != end:
                return None
            end += place.bytes
        return self._rows if end == self._rows.size else None

    def close(self) -> None:
        self._file.close()
        if self._rows:
            self._rows.close()

    def remove(self) -> None:
        """Deletes the journal, after its work is done."""
        self.path.unlink(missing_ok=True)
        self._file.close()
        if self._rows:
            self._rows.remove()

    def _append(self, *parts: bytes) -> int:
        crc = 0
        for part in parts:
            crc = zlib.crc32(part, crc)
        offset = self._file.tell() + _HEADER.size
        self._file.write(_HEADER.pack(sum(map(len, parts)), crc))
        for part in parts:
            self._file.write(part)
        self._file.flush()
        return offset

    def _cut_back(self, end: int) -> None:
        """After a failed write: drops the incomplete record, on disk and in Python's buffer."""
        descriptor = os.dup(self._file.fileno())  # which keeps the lock
        with suppress(OSError):  # closing tries to write the buffer again
            self._file.close()
        os.ftruncate(descriptor, end)
        os.close(descriptor)

    def _place(self, key: str) -> Place:
        return Place(**self._payload_json(self._where[key][1])["rows"])

    def _payload_json(self, offset: int) -> dict[str, Any]:
        position = self._file.tell()
        self._file.seek(offset)
        line: dict[str, Any] = json.loads(self._file.readline())
        self._file.seek(position)
        return line


def scan(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Offset and length of each complete payload of a journal; stops at the first incomplete one."""
    size = file.seek(0, 2)
    file.seek(0)
    if file.read(len(MAGIC)) != MAGIC:
        return
    position = len(MAGIC)
    while position + _HEADER.size <= size:
        file.seek(position)
        length, crc = _HEADER.unpack(file.read(_HEADER.size))
        start = position + _HEADER.size
        if length == 0 or start + length > size or _crc(file, length) != crc:
            return
        yield start, length
        position = start + length


class Summary(NamedTuple):
    """What a journal holds.

    identity: the description of its work. finished: the images that are complete and match their checksums.
    damaged: whether anything is incomplete or does not match; the same work, run again, computes those images again.
    """

    identity: dict[str, Any]
    finished: int
    damaged: bool


def summary(path: Path) -> Summary:
    """Reads a journal and the file of its wide column, for `frcnn inspect`.

    Raises:
        FileFormatError: not a journal.
    """
    with open(path, "rb") as file:
        records = list(scan(file))
        if not records:
            raise FileFormatError(f"{path} is not the journal of a stage", "Name a file that frcnn wrote")
        heads = []
        for offset, _ in records:
            file.seek(offset)
            heads.append(json.loads(file.readline()))
        complete = sum(records[-1]) == file.seek(0, 2)
    places = [Place(**head["rows"]) for head in heads[1:] if "rows" in head]
    lost = 0
    if places:
        rows_path = path.with_name(path.name + "-rows")
        with suppress(OSError), open(rows_path, "rb") as rows:
            lost = -sum(_holds(rows, place) for place in places)
        lost += len(places)
    return Summary(heads[0], len(heads) - 1 - lost, bool(lost) or not complete)


def _holds(rows: BinaryIO, place: Place) -> bool:
    rows.seek(place.offset)
    return zlib.crc32(rows.read(place.bytes)) == place.checksum


def _crc(file: BinaryIO, length: int) -> int:
    crc = 0
    while length > 0:
        block = file.read(min(length, 1 << 20))
        crc = zlib.crc32(block, crc)
        length -= len(block)
    return crc
