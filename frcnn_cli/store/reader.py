"""Reading the file of a stage, with everything checked before it is used.

An HDF5 file may be truncated, damaged, of another stage, of a newer version, or malicious: it may point to other files,
or claim sizes that exhaust the memory. Each of these raises `FileFormatError`. What a file holds is compared with its
checksums when it is read.

Files of version 1 hold variable-length strings; HDF5's library can loop for ever on a damaged one. A child process
opens such a file first (`store.version_1`); variable-length strings are not read in this process.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.checksum import checksum
from frcnn_cli.core.errors import FileFormatError, explain_os_error
from frcnn_cli.core.files import check_regular
from frcnn_cli.core.image import ImageRecord
from frcnn_cli.core.progress import SILENT, Progress
from frcnn_cli.store import checksums
from frcnn_cli.store.schema import FORMAT_VERSION, FORMATS, IMAGE_COLUMNS, MAX_PROVENANCE, SCORES, Format
from frcnn_cli.system.child import parse_in_child

_TEXTS = ("format", "format_version", "tool_version", "provenance")
_MAX_ATTRIBUTES = 64
_SIGNATURE = struct.Struct("<8sB")  # the start of an HDF5 file, and the version of its superblock


class StageFile:
    """An open file of a stage: `images`, `provenance`, the text `attributes`, and the arrays of each image by index."""

    def __init__(self, path: str | Path, fmt: Format | None = None, in_child: bool = False) -> None:
        """Opens a file.

        Args:
            fmt: the required format; None: any.
            in_child: whether this is the child process, which may read variable-length strings.

        Raises:
            FileFormatError: see the module. FrcnnError: the file cannot be read.
        """
        self.path = Path(path)
        _check_readable(self.path)
        known = _attributes_in_child(self.path) if not in_child and _superblock(self.path) < 2 else None
        self._file = _open(self.path)
        try:
            self.attributes = known or self._read_attributes(in_child)
            self.format = self._check_format(fmt)
            self.provenance: dict[str, Any] = self._read_provenance()
            self.images: list[ImageRecord] = self._read_images()
            self._columns = self._check_columns()
            self._checksums = self._check_description()
        except FileFormatError:
            self._file.close()
            raise
        except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
            self._file.close()
            raise self._damaged(str(error)) from None
        self.index = {image.key: i for i, image in enumerate(self.images)}

    def __len__(self) -> int:
        return len(self.images)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names that labels and columns of scores index; empty for proposals and features."""
        return tuple(self.provenance.get("classes", ()))

    @property
    def tool_version(self) -> str:
        return self.attributes.get("tool_version", "unknown")

    @property
    def format_version(self) -> str:
        return self.attributes["format_version"]

    @property
    def has_checksums(self) -> bool:
        """Whether damage to this file would be noticed: since version 2."""
        return bool(self._checksums)

    @property
    def row_count(self) -> int:
        """T, the number of rows of all images together."""
        return int(self.offsets[-1])

    @property
    def column_shapes(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """dtype and shape of every column."""
        return {name: (str(data.dtype), tuple(data.shape)) for name, data in self._columns.items()}

    def counts(self) -> NDArray[np.int64]:
        """Rows of each image, [N]."""
        counts: NDArray[np.int64] = np.diff(self.offsets)
        return counts

    def verify(self, progress: Progress = SILENT) -> None:
        """Reads the whole file, which compares everything with its checksums if it `has_checksums`.

        Raises:
            FileFormatError: damage; it names image and column.
        """
        with progress.task("verifying", len(self)) as bar:
            for i in range(len(self)):
                self.read(i, tuple(self.column_shapes))
                bar.advance()

    def rows_digest(self, name: str) -> str:
        """A hash of a ragged column and its offsets, for recording which data were used."""
        total = hashlib.blake2b(self.offsets.tobytes(), digest_size=16)
        for i in range(len(self)):
            total.update(self[i][name].tobytes())
        return total.hexdigest()

    def __getitem__(self, i: int) -> dict[str, NDArray[Any]]:
        """The arrays of image i: its rows of the ragged columns, its value of the other columns."""
        return self.read(i, tuple(self.column_shapes))

    def read(self, i: int, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
        """The named arrays of image i."""
        start, stop = int(self.offsets[i]), int(self.offsets[i + 1])
        try:
            arrays = {}
            for name in names:
                data = self._columns[name]
                arrays[name] = np.asarray(data[start:stop] if name in self.format.ragged else data[i])
        except (OSError, RuntimeError) as error:
            raise self._damaged(str(error)) from None
        for name, array in arrays.items():
            if self._checksums and checksum(array) != self._checksums[name][i]:
                raise self._damaged(f"{name} of image {self.images[i].key!r} do not match their checksum")
        for name in ("boxes", "scores", "probabilities", "scale", "steps", "mirrored_steps"):
            if name in arrays and not np.isfinite(arrays[name]).all():
                raise self._damaged(f"{name} of image {self.images[i].key!r} hold NaN or infinity")
        if "labels" in arrays and ((arrays["labels"] < 0) | (arrays["labels"] >= len(self.classes))).any():
            raise self._damaged(f"a label of image {self.images[i].key!r} is outside of the classes")
        return arrays

    def __iter__(self) -> Iterator[tuple[ImageRecord, dict[str, NDArray[Any]]]]:
        for i, image in enumerate(self.images):
            yield image, self[i]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _damaged(self, reason: str) -> FileFormatError:
        return FileFormatError(f"{self.path} is damaged ({reason})", "Compute it again with the command that wrote it")

    def _read_attributes(self, in_child: bool) -> dict[str, str]:
        """The string attributes that the file has, of those expected."""
        root = self._file.id
        if h5py.h5a.get_num_attrs(root) > _MAX_ATTRIBUTES:
            raise self._damaged(f"it has {h5py.h5a.get_num_attrs(root):,} attributes")
        found: dict[str, str] = {}
        for name in _TEXTS:
            if not h5py.h5a.exists(root, name.encode()):
                continue
            attribute = h5py.h5a.open(root, name.encode())
            kind = attribute.get_type()
            if not isinstance(kind, h5py.h5t.TypeStringID) or attribute.get_space().get_simple_extent_npoints() != 1:
                raise self._damaged(f"its attribute {name} is not a string")
            if kind.is_variable_str():
                if not in_child and not found.get("format_version"):
                    return _attributes_in_child(self.path)
                if not in_child:
                    raise self._damaged(f"its attribute {name} has a variable length")
            elif kind.get_size() > MAX_PROVENANCE:
                raise self._damaged(f"its attribute {name} has {kind.get_size():,} bytes")
            value = self._file.attrs[name]
            found[name] = value.decode() if isinstance(value, bytes) else str(value)
        return found

    def _check_format(self, wanted: Format | None) -> Format:
        name = self.attributes.get("format", "")
        fmt = FORMATS.get(name.removeprefix("frcnn/")) if name.startswith("frcnn/") else None
        if fmt is None and not name.startswith("frcnn/"):
            raise FileFormatError(f"{self.path} is HDF5, but not written by frcnn", "Name a file that frcnn wrote")
        version = self.attributes.get("format_version", "")
        major = version.split(".")[0]
        if not major.isdigit():
            raise self._damaged(f"format version {version!r}")
        if int(major) > FORMAT_VERSION[0] or fmt is None:
            raise FileFormatError(
                f"{self.path} was written by a newer frcnn ({name} {version}; this reads up to {FORMAT_VERSION[0]}.x)",
                "Upgrade frcnn-cli, or compute the file again",
            )
        if wanted is not None and fmt is not wanted:
            raise FileFormatError(
                f"{self.path} is a {fmt.name} file, not a {wanted.name} file", f"Name a {wanted.name} file"
            )
        return fmt

    def _read_provenance(self) -> dict[str, Any]:
        text = self.attributes["provenance"]
        provenance = json.loads(text) if len(text) <= MAX_PROVENANCE else None
        if not isinstance(provenance, dict):
            raise self._damaged("its provenance is not JSON")
        missing = [name for name in self.format.provenance if name not in provenance]
        if missing:
            raise self._damaged(f"its provenance lacks {missing[0]}")
        names = provenance.get("classes", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise self._damaged("its classes are not names")
        return provenance

    def _read_images(self) -> list[ImageRecord]:
        keys = self._dataset("images/key", "S")[()]
        columns = [self._dataset(f"images/{name}", "iu")[()] for name in ("height", "width", "orientation")]
        digests = self._dataset("images/digest", "S")[()]
        if len({len(keys), len(digests), *map(len, columns)}) != 1:
            raise self._damaged("the columns of images/ differ in length")
        height, width, orientation = columns
        images = [
            ImageRecord(key.decode(), int(height[i]), int(width[i]), digests[i].decode(), int(orientation[i]))
            for i, key in enumerate(keys)
        ]
        if len({image.key for image in images}) != len(images):
            raise self._damaged("two images share a key")
        return images

    def _check_columns(self) -> dict[str, h5py.Dataset]:
        self.offsets = self._dataset("offsets", "iu")[()].astype(np.int64)
        offsets = self.offsets
        if offsets.shape != (len(self.images) + 1,) or offsets[0] != 0 or (np.diff(offsets) < 0).any():
            raise self._damaged("its offsets do not match its images")
        found = {}
        for name, column in self.format.columns.items():
            if column.optional and name not in self._file:
                continue
            data = self._dataset(name)
            rows = self.row_count if name in self.format.ragged else len(self.images)
            if str(data.dtype) not in column.dtypes or not column.accepts_shape(data.shape) or data.shape[0] != rows:
                raise self._damaged(f"column {name} is {data.dtype} {list(data.shape)}")
            found[name] = data
        if self.format is SCORES:
            columns = found["probabilities"].shape[1] - 1, found["boxes"].shape[1]
            if columns != (len(self.classes), len(self.classes)):
                raise self._damaged(f"{len(self.classes)} classes, but scores for {columns[0]} and {columns[1]}")
        return found

    def _check_description(self) -> dict[str, NDArray[np.uint32]]:
        """The checksums by column, after everything else was compared with its checksum; empty for files of version 1,
        which have none."""
        if self.format_version.startswith("1."):
            return {}
        if checksums.GROUP not in self._file or len(self._file[checksums.GROUP]) > _MAX_ATTRIBUTES:
            raise self._damaged("its checksums are missing")
        names = sorted(self._file[checksums.GROUP])
        found = {name: self._dataset(f"{checksums.GROUP}/{name}", "u")[()] for name in names}
        tables = {f"{checksums.GROUP}/{name}": values for name, values in found.items()}
        tables |= {"offsets": self._dataset("offsets")[()]}
        tables |= {f"images/{name}": self._dataset(f"images/{name}")[()] for name in IMAGE_COLUMNS}
        columns = {name: self._dataset(name) for name in names}
        described = {name: (str(data.dtype), tuple(data.shape)) for name, data in columns.items()}
        recorded = self._file.attrs.get_id(checksums.DESCRIPTION)
        if recorded.dtype != np.uint32 or recorded.shape != ():
            raise self._damaged("its checksum is not a number")
        if checksums.of_description(self.attributes, tables, described) != self._file.attrs[checksums.DESCRIPTION]:
            raise self._damaged("its description does not match its checksum")
        if not set(self._columns) <= set(found) or any(len(values) != len(self) for values in found.values()):
            raise self._damaged("a column has no checksums")
        return found

    def _dataset(self, name: str, kinds: str | None = None) -> h5py.Dataset:
        """A dataset stored in this file itself that takes no more memory than the file has bytes for."""
        group = self._file
        for part in name.split("/"):
            if not isinstance(group, h5py.Group) or not isinstance(group.get(part, getlink=True), h5py.HardLink):
                raise self._damaged(f"{name} is missing")
            group = group[part]
        if not isinstance(group, h5py.Dataset) or group.external or group.is_virtual:
            raise self._damaged(f"{name} is not a dataset of this file")
        if kinds is not None and (group.dtype.kind not in kinds or group.ndim != 1):
            raise self._damaged(f"{name} is {group.dtype} {list(group.shape)}")
        if group.dtype.hasobject or group.nbytes > group.id.get_storage_size():  # frcnn writes nothing compressed
            raise self._damaged(f"{name} claims {group.nbytes:,} bytes, but has {group.id.get_storage_size():,}")
        return group


def _check_readable(path: Path) -> None:
    try:
        with open(check_regular(path, FileFormatError), "rb") as raw:
            raw.read(1)
    except OSError as error:
        raise explain_os_error(error, path) from None


def _superblock(path: Path) -> int:
    """The version of the superblock of an HDF5 file; since 2, HDF5's own structures have checksums. 2 if it is not
    HDF5 (opening it fails harmlessly), and 0 if it starts later in the file than frcnn's files do (not trusted)."""
    with open(path, "rb") as file:
        start = file.read(_SIGNATURE.size)
    if not h5py.is_hdf5(path):
        return 2
    signature, version = _SIGNATURE.unpack(start)
    return version if signature == b"\x89HDF\r\n\x1a\n" else 0


def _attributes_in_child(path: Path) -> dict[str, str]:
    """The string attributes of a file of version 1, read by a child process that first opens the file completely, so
    that a hang or a crash happens there."""
    attributes: dict[str, str] = json.loads(parse_in_child("frcnn_cli.store.version_1", path))
    return attributes


def _open(path: Path) -> h5py.File:
    if not h5py.is_hdf5(path):
        raise FileFormatError(f"{path} is not an HDF5 file", "Name a file that frcnn wrote")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        reason = "truncated" if "truncated" in str(error) else str(error)
        raise FileFormatError(f"{path} is {reason}", "Compute it again with the command that wrote it") from None
