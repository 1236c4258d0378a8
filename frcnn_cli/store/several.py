"""Several files of a stage, read as one: the shards of a run, or files of different images made in the same way."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.errors import FrcnnError, MismatchError
from frcnn_cli.store.reader import StageFile
from frcnn_cli.store.schema import Format
from frcnn_cli.store.shards import check_shards, common_provenance
from frcnn_cli.system.processes import allow_open_files


class StageFiles(StageFile):
    """Like a `StageFile` with the images of all files, sorted by key."""

    def __init__(self, paths: Sequence[Path], name: Path, fmt: Format | None = None) -> None:
        """
        Args:
            name: how messages name the files: the pattern.

        Raises:
            FileFormatError: a file is none of frcnn, or damaged. MismatchError: they do not belong together.
        """
        self.path = name
        allow_open_files(len(paths))
        self._files: list[StageFile] = []
        try:
            for path in paths:
                self._files.append(StageFile(path, self._files[0].format if self._files else fmt))
            self._join()
        except FrcnnError:
            self._close()
            raise

    def _join(self) -> None:
        first = self._files[0]
        self.attributes, self.format = first.attributes, first.format
        check_shards(self._files)
        self.provenance = common_provenance([file.provenance for file in self._files], [f.path for f in self._files])
        places = sorted((image.key, n, i) for n, file in enumerate(self._files) for i, image in enumerate(file.images))
        for (key, n, _), (next_key, m, _) in pairwise(places):
            if key == next_key:
                raise MismatchError(
                    f"{self._files[n].path} and {self._files[m].path} both hold image {key!r}", "Name one of them"
                )
        self._check_names()
        self._places = [(n, i) for _, n, i in places]
        self.images = [self._files[n].images[i] for n, i in self._places]
        self.index = {image.key: i for i, image in enumerate(self.images)}
        counts = [file.counts() for file in self._files]
        self.offsets = np.concatenate([[0], np.cumsum([counts[n][i] for n, i in self._places])]).astype(np.int64)

    def _check_names(self) -> None:
        """Refuses the images of a data set beside those of its folder: the same image has two keys (0003, 0003.jpg)."""
        digests = {image.key: (image.digest, file.path) for file in self._files for image in file.images}
        for key, (digest, path) in digests.items():
            digest_of_stem, other = digests.get(str(Path(key).with_suffix("")) if Path(key).suffix else key, ("", path))
            if other != path and digest_of_stem == digest:
                raise MismatchError(
                    f"{other} and {path} name the same image in two ways ({Path(key).with_suffix('')!s} and {key})",
                    "Compute both from the folder, or both from the data set",
                )

    @cached_property
    def column_shapes(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        shapes = [file.column_shapes for file in self._files if len(file)] or [self._files[0].column_shapes]
        found = {}
        for name, (dtype, shape) in shapes[0].items():
            if all(name in one for one in shapes):
                found[name] = dtype, (sum(one[name][1][0] for one in shapes), *shape[1:])
        return found

    @property
    def has_checksums(self) -> bool:
        return all(file.has_checksums for file in self._files)

    def read(self, i: int, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
        n, row = self._places[i]
        return self._files[n].read(row, names)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        for file in self._files:
            file.__exit__(None, None, None)
