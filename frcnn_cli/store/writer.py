"""Writing the file of a stage so that nothing is ever lost or half-written.

    with StageWriter(path, PROPOSALS, provenance) as out:
        for ref in out.missing(refs, digest_file):
            out.add(record, {"boxes": boxes})
        out.finish()

Finished images are written to a journal beside the output (`props.h5.partial`), and conv maps and refined boxes to
their final position (`rows`). `finish` assembles the HDF5 file from them under another name and renames it. If the
process is killed before that, the output path keeps its content, and the same work, run again, finds the journal and
does only what is missing. The result is sorted by key, so it does not depend on interruptions.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from frcnn_cli import __version__
from frcnn_cli.core.errors import FileFormatError, FrcnnError, ImageError, OutputExistsError, explain_os_error
from frcnn_cli.core.files import new_temporary, remove_temporaries
from frcnn_cli.core.image import ImageRecord, ImageRef
from frcnn_cli.core.shards import SHARD
from frcnn_cli.core.storage.location import Location
from frcnn_cli.store import checksums
from frcnn_cli.store.journal import Arrays, Journal, journal_of
from frcnn_cli.store.reader import StageFile
from frcnn_cli.store.rows import Rows, lay_out, make_room
from frcnn_cli.store.schema import FORMAT_VERSION, IMAGE_COLUMNS, MAX_PROVENANCE, Format
from frcnn_cli.system.disk import allocate
from frcnn_cli.system.prefetch import prefetch

_SPARE_BYTES = 1 << 16  # overhead of HDF5, for the check of free space


class StageWriter:
    """Takes one image at a time, in any order; see the module."""

    def __init__(
        self, path: Path, fmt: Format, provenance: Mapping[str, Any], force: bool = False, extend: bool = False
    ) -> None:
        """Opens or continues the work on an output file.

        Args:
            provenance: JSON values that state how the data are computed; runs with equal provenance continue each
                other.
            force: replace an existing file (when the new one is complete), and discard unfinished work with other
                options.
            extend: continue an existing file of equal provenance that lacks some images (because they failed):
                `missing` copies its content.

        Raises:
            OutputExistsError: the path exists and `force` is not set.
            FrcnnError: the path cannot be written, or there is unfinished work with other options.
        """
        self.path = path
        self.format = fmt
        self.provenance = dict(provenance)
        self._provenance_text = json.dumps(self.provenance, sort_keys=True)
        if len(self._provenance_text) > MAX_PROVENANCE:
            size = f"{len(self._provenance_text) / 1e6:,.1f} MB"
            raise FrcnnError(f"the description of {path} takes {size} (1 MB is the limit)", "Use shorter class names")
        if path.is_dir():
            raise FrcnnError(f"{path} is a folder", "Name a file to write, for example " + str(path / f"{fmt.name}.h5"))
        self._extends = extend and path.exists() and not force
        if path.exists() and not force and not extend:
            raise OutputExistsError(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explain_os_error(error, path.parent) from None
        identity = {"format": fmt.name, "version": list(FORMAT_VERSION), "provenance": self.provenance}
        self._journal = Journal(journal_of(path), identity, force, fmt.wide)
        self._requested: set[str] = set()  # the images of this run; the journal may hold more

    def missing(self, refs: Iterable[ImageRef], digest: Callable[[Path | Location], str]) -> list[ImageRef]:
        """The images that remain, in the order given: those that no earlier run finished, or whose content has changed.

        Raises:
            OutputExistsError: with `extend`, the existing file already has all of these images, or an image that is not
                among them, or was made differently.
        """
        refs = list(refs)
        if self._extends:
            self._copy_existing({ref.key for ref in refs})

        self._requested.update(ref.key for ref in refs)

        def has_changed(ref: ImageRef) -> bool:
            done = self._journal.record_of(ref.key)
            try:
                return done is None or digest(ref.location) != done.digest
            except ImageError:
                return True  # it no longer exists; the stage will report it

        begun = [ref for ref in refs if self._journal.record_of(ref.key) is not None]
        # Images are read again on several threads, because those behind a URL take a moment to arrive.
        for ref, changed in zip(begun, prefetch(has_changed, begun, threads=8, ahead=32), strict=True):
            if changed:
                self._journal.forget(ref.key)
        return [ref for ref in refs if self._journal.record_of(ref.key) is None]

    def _copy_existing(self, wanted: set[str]) -> None:
        """Copies the images of the existing file into the journal, if it was made in the same way and lacks some."""
        try:
            old = StageFile(self.path, self.format)
        except FileFormatError:
            raise OutputExistsError(self.path) from None
        with old:
            keys = {image.key for image in old.images}
            if json.loads(json.dumps(self.provenance)) != old.provenance or not keys < wanted:
                raise OutputExistsError(self.path)
            for image, arrays in old:
                if self._journal.record_of(image.key) != image:
                    self._journal.forget(image.key)
                    self._journal.write(image, arrays)

    def is_done(self, image: ImageRecord) -> bool:
        """Whether an earlier run finished exactly this image; for stages that read from files of other stages."""
        self._requested.add(image.key)
        if self._journal.record_of(image.key) == image:
            return True
        self._journal.forget(image.key)
        return False

    def read(self, key: str) -> dict[str, NDArray[Any]]:
        """The arrays of a finished image."""
        return self._journal.read(key)

    def add(self, image: ImageRecord, arrays: Arrays) -> None:
        """Stores one finished image: its rows of every ragged column, and its value of every per-image column.

        Raises:
            ValueError: an array has another dtype or shape than the format requires.
            FrcnnError: the disk is full.
        """
        columns = self.format.columns
        if unknown := set(arrays) - set(columns):
            raise ValueError(f"{self.format.name} files have no column {sorted(unknown)}")
        rows = {len(arrays[name]) for name in self.format.ragged if name in arrays}
        if len(rows) > 1:
            raise ValueError(f"ragged columns of {image.key} differ in length: {sorted(rows)}")
        for name, column in columns.items():
            if name not in arrays:
                if not column.optional:
                    raise ValueError(f"{image.key} has no {name}")
                continue
            array = arrays[name] if name in self.format.ragged else arrays[name][None]
            if not column.accepts(array):
                raise ValueError(f"{name} of {image.key}: {array.dtype} {list(array.shape)} does not match {column}")
        self._requested.add(image.key)
        self._journal.write(image, arrays)

    def finish(self) -> int:
        """Assembles the file, renames it into place, and returns the number of images in it.

        Raises:
            FrcnnError: no image was finished, or the disk is full; the journal is kept, so nothing is lost.
        """
        images = [image for image in self._journal.images if image.key in self._requested]
        if not images and (self._requested or SHARD not in self.provenance):
            raise FrcnnError(f"all images failed, so {self.path} was not written", "See the errors above")
        try:
            remove_temporaries(self.path)  # the lock of the journal is held
            temporary = new_temporary(self.path)
        except OSError as error:
            raise explain_os_error(error, self.path) from None
        try:
            rows = self._journal.rows_of([image.key for image in images])
            self._check_space(temporary, rows)
            with lay_out(temporary) as file:
                in_place = self._write(file, images, rows)
            if rows and in_place:
                rows.put_around(temporary)
                rows.path.replace(self.path)
                temporary.unlink()
            else:
                with open(temporary, "rb") as written:
                    os.fsync(written.fileno())
                temporary.replace(self.path)
        except (OSError, RuntimeError) as error:  # HDF5 reports a failed write as either
            temporary.unlink(missing_ok=True)
            if not isinstance(error, OSError) or error.errno is None:
                error = OSError(errno.ENOSPC, str(error))
            raise explain_os_error(error, self.path) from None
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self._journal.remove()
        return len(images)

    def _check_space(self, temporary: Path, rows: Rows | None) -> None:
        """Checks the free space before HDF5 starts writing, because HDF5 does not survive a failed write.

        The space is allocated, so that quotas and limits apply too, and released at once.
        """
        in_place = rows.size if rows else 0
        needed = self._journal.size - in_place + _SPARE_BYTES
        try:
            with open(temporary, "wb") as file:
                file.truncate(in_place + needed)  # HDF5 leaves a hole for rows that are in place
                allocate(file.fileno(), 0, needed)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise FrcnnError(
                f"no space left to write {self.path}, which needs about {needed / 1e6:,.1f} MB",
                "Free some disk space and run the same command again; all finished images are kept",
            ) from None

    def _write(self, file: h5py.File, images: list[ImageRecord], rows: Rows | None) -> bool:
        """Writes everything except the rows of the wide column if they are in their final position; returns whether
        they are."""
        described = [self._journal.described(image.key) for image in images]
        shapes = [{name: (a.dtype, a.shape) for name, a in arrays.items()} for arrays in described]
        shapes = shapes or [self._shapes_of_nothing()]  # a shard without images
        counts = [next(shape[name][1][0] for name in self.format.ragged if name in shape) for shape in shapes]
        counts = counts[: len(images)]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        datasets = {}
        # The wide column comes first, so that HDF5 places it at the position of its rows.
        present = self._present(images, shapes, counts) if images else list(shapes[0])
        for name in sorted(present, key=lambda name: name != self.format.wide):
            dtype, shape = next(shape[name] for shape in shapes if name in shape)
            full = (int(offsets[-1]), *shape[1:]) if name in self.format.ragged else (len(images), *shape)
            if rows and name == self.format.wide and make_room(file, name, full, dtype):
                continue
            datasets[name] = file.require_dataset(name, full, dtype)
        file["offsets"] = offsets
        _write_images(file, images)
        singles: dict[str, list[NDArray[Any]]] = {name: [] for name in datasets if name in self.format.per_image}
        for i, image in enumerate(images):
            arrays = self._journal.read(image.key, list(datasets))
            for name, array in arrays.items():
                if name in singles:
                    singles[name].append(array)
                elif counts[i]:
                    datasets[name][offsets[i] : offsets[i + 1]] = array
        for name, values in singles.items():
            if values:
                datasets[name][:] = np.stack(values)
        attributes = {
            "format": f"frcnn/{self.format.name}",
            "format_version": ".".join(map(str, FORMAT_VERSION)),
            "tool_version": __version__,
            "provenance": self._provenance_text,
        }
        sums = {
            name: np.array([a[name].checksum if name in a else 0 for a in described], np.uint32) for name in present
        }
        _write_description(file, attributes, sums)
        return self.format.wide is not None and self.format.wide not in datasets

    def _shapes_of_nothing(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """dtype and shape of the required columns of a file without images."""
        classes = len(self.provenance.get("classes", ()))
        any_length = {"probabilities": classes + 1, "boxes": classes}
        return {
            name: (column.dtypes[-1], tuple(any_length.get(name, 1) if n < 0 else n for n in column.row_shape))
            if name in self.format.per_image
            else (column.dtypes[-1], (0, *(any_length.get(name, 1) if n < 0 else n for n in column.row_shape)))
            for name, column in self.format.columns.items()
            if not column.optional
        }

    def _present(
        self, images: list[ImageRecord], shapes: list[dict[str, tuple[str, tuple[int, ...]]]], counts: list[int]
    ) -> list[str]:
        """The columns to write: all required ones, and optional ones that every image with rows has."""
        present = []
        for name, column in self.format.columns.items():
            without = [image.key for image, s, n in zip(images, shapes, counts, strict=True) if name not in s and n]
            if not any(name in shape for shape in shapes):
                continue
            if without and column.optional:
                raise FileFormatError(
                    f"{self.path}: image {without[0]!r} has no {name}, but others have",
                    f"Provide {name} for all images or for none",
                )
            present.append(name)
        return present

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._journal.images:
            self._journal.close()
        else:  # nothing to continue later
            self._journal.remove()


def _write_images(file: h5py.File, images: list[ImageRecord]) -> None:
    table = file.create_group("images")
    for name, dtype in IMAGE_COLUMNS.items():
        values = [getattr(image, name) for image in images]
        if dtype == "S":
            values = [value.encode() for value in values]
            table[name] = np.array(values, h5py.string_dtype("utf-8", max(map(len, values), default=0) or 1))
        else:
            table[name] = np.array(values, dtype)


def _write_description(file: h5py.File, attributes: dict[str, str], sums: dict[str, NDArray[np.uint32]]) -> None:
    """Writes the attributes and the checksums, as the last thing. All strings have a fixed length: a damaged
    variable-length string can make HDF5 loop for ever."""
    for name, text in attributes.items():
        encoded = text.encode()
        file.attrs.create(name, encoded, dtype=h5py.string_dtype("utf-8", len(encoded)))
    for name, values in sums.items():
        file[f"{checksums.GROUP}/{name}"] = values
    tables = [*(f"images/{name}" for name in IMAGE_COLUMNS), *(f"{checksums.GROUP}/{name}" for name in sums), "offsets"]
    columns = {name: (str(file[name].dtype), tuple(file[name].shape)) for name in sums}
    described = checksums.of_description(attributes, {name: file[name][()] for name in tables}, columns)
    file.attrs[checksums.DESCRIPTION] = np.uint32(described)
