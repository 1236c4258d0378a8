"""Writing a stage's file so that nothing is ever lost or half-written.

    with StageWriter(path, PROPOSALS, provenance) as out:
        for ref in out.missing(refs, digest_file):
            out.add(record, {"boxes": boxes})
        out.finish()

Finished images go to a journal beside the output (`props.h5.partial`). `finish` assembles the HDF5 file from it under
another name and renames it into place. Killed before that, the output path holds what it held; the same work run again
finds the journal and does only what is missing. The result is sorted by key, so it is the same however it came about.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from frcnn_cli import __version__
from frcnn_cli.errors import FrcnnError, ImageError, OutputExistsError, explain_os_error
from frcnn_cli.image import ImageRecord, ImageRef
from frcnn_cli.store.journal import Arrays, Journal
from frcnn_cli.store.schema import FORMAT_VERSION, Format

IMAGE_COLUMNS = {"height": "int32", "width": "int32", "orientation": "uint8"}
_SPARE_BYTES = 1 << 16  # what HDF5 itself takes, for the check of free space


class StageWriter:
    """Takes one image at a time, in any order; see the module."""

    def __init__(self, path: Path, fmt: Format, provenance: Mapping[str, Any], force: bool = False) -> None:
        """
        Args:
            provenance: JSON values that say how the data came about; runs with equal provenance continue each other.
            force: replace an existing file (only when the new one is whole).

        Raises:
            OutputExistsError: the path is taken and `force` is not set.
            FrcnnError: the path cannot be written.
        """
        self.path = path
        self.format = fmt
        self.provenance = dict(provenance)
        if path.is_dir():
            raise FrcnnError(f"{path} is a folder", "Name a file to write, for example " + str(path / f"{fmt.name}.h5"))
        if path.exists() and not force:
            raise OutputExistsError(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explain_os_error(error, path.parent) from None
        identity = {"format": fmt.name, "version": list(FORMAT_VERSION), "provenance": self.provenance}
        self._journal = Journal(path.with_name(path.name + ".partial"), identity)
        self._asked: set[str] = set()  # what this run wants in the file; more may lie in the journal

    @property
    def discarded(self) -> bool:
        """Whether an unfinished journal of other options lay there and was begun anew."""
        return self._journal.discarded

    def missing(self, refs: Iterable[ImageRef], digest: Callable[[Path], str]) -> list[ImageRef]:
        """The images still to do: those not finished by an earlier run, or whose file has changed since."""
        todo = []
        for ref in refs:
            self._asked.add(ref.key)
            done = self._journal.record_of(ref.key)
            if done is not None:
                try:
                    if digest(ref.path) == done.digest:
                        continue
                except ImageError:
                    pass  # gone since: the stage will name it
                self._journal.forget(ref.key)
            todo.append(ref)
        return todo

    def is_done(self, image: ImageRecord) -> bool:
        """Whether an earlier run finished exactly this image; for stages that read from files of ours."""
        self._asked.add(image.key)
        if self._journal.record_of(image.key) == image:
            return True
        self._journal.forget(image.key)
        return False

    def read(self, key: str) -> dict[str, NDArray[Any]]:
        """The arrays of an image that is done."""
        return self._journal.read(key)

    def add(self, image: ImageRecord, arrays: Arrays) -> None:
        """Keeps one finished image: every ragged column's rows, and every per-image column's value.

        Raises:
            ValueError: an array of another dtype or shape than the format says.
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
                raise ValueError(f"{name} of {image.key}: {array.dtype} {list(array.shape)} does not fit {column}")
        self._asked.add(image.key)
        self._journal.write(image, arrays)

    def finish(self) -> int:
        """Assembles the file, puts it in place, and returns how many images it holds.

        Raises:
            FrcnnError: no image was finished, or there is no room; the journal stays, so nothing is lost.
        """
        for image in self._journal.images:
            if image.key not in self._asked:
                self._journal.forget(image.key)
        images = self._journal.images
        if not images:
            self._journal.remove()
            raise FrcnnError(f"not one image could be done, so {self.path} was not written", "See the lines above")
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        try:
            self._check_space()
            with h5py.File(temporary, "w", libver="v110") as file:
                self._write(file, images)
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            temporary.replace(self.path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            if error.errno is None and shutil.disk_usage(self.path.parent).free < _SPARE_BYTES:
                error.errno = 28  # HDF5 does not always hand the number on
            raise explain_os_error(error, self.path) from None
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self._journal.remove()
        return len(images)

    def _check_space(self) -> None:
        needed = self._journal.path.stat().st_size + _SPARE_BYTES
        free = shutil.disk_usage(self.path.parent).free
        if needed > free:
            raise FrcnnError(
                f"{self.path} needs about {needed / 1e6:,.1f} MB and the disk has {free / 1e6:,.1f} MB left",
                "Free some disk space and run the same command again; all images are finished and kept",
            )

    def _write(self, file: h5py.File, images: list[ImageRecord]) -> None:
        file.attrs["format"] = f"frcnn/{self.format.name}"
        file.attrs["format_version"] = ".".join(map(str, FORMAT_VERSION))
        file.attrs["tool_version"] = __version__
        file.attrs["provenance"] = json.dumps(self.provenance, sort_keys=True)
        _write_images(file, images)
        shapes = [self._journal.shapes(image.key) for image in images]
        present = [name for name in self.format.columns if all(name in shape for shape in shapes)]
        counts = [next(shape[name][1][0] for name in self.format.ragged if name in shape) for shape in shapes]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        file["offsets"] = offsets
        datasets = {}
        for name in present:
            dtype, shape = shapes[0][name]
            full = (int(offsets[-1]), *shape[1:]) if name in self.format.ragged else (len(images), *shape)
            datasets[name] = file.create_dataset(name, full, dtype)
        for i, image in enumerate(images):
            arrays = self._journal.read(image.key)
            for name, dataset in datasets.items():
                if name not in self.format.ragged:
                    dataset[i] = arrays[name]
                elif len(arrays[name]):
                    dataset[offsets[i] : offsets[i + 1]] = arrays[name]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._journal.close()


def _write_images(file: h5py.File, images: list[ImageRecord]) -> None:
    table = file.create_group("images")
    for name, dtype in IMAGE_COLUMNS.items():
        table[name] = np.array([getattr(image, name) for image in images], dtype)
    for name in ("key", "digest"):
        encoded = [getattr(image, name).encode() for image in images]
        table[name] = np.array(encoded, h5py.string_dtype("utf-8", max(map(len, encoded)) or 1))
