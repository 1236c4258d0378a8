"""Several files of a stage, read as one: the shards of a run, or files of different images made in the same way."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.errors import FrcnnError, MismatchError, UsageError, listed
from frcnn_cli.core.shards import SHARD, Shard
from frcnn_cli.store.reader import StageFile
from frcnn_cli.store.schema import Format
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


def check_shards(files: Sequence[StageFile]) -> None:
    """Checks that the shards among these files are a whole. Files that are no shards need no others.

    Raises:
        MismatchError: a shard is missing, is there twice, is one of another number of shards, or stands beside files
            that are no shards.
    """
    found: dict[Shard, Path] = {}
    others = []
    for file in files:
        text = file.provenance.get(SHARD)
        if text is None:
            others.append(file.path)
            continue
        shard = _recorded(text, file.path)
        if shard in found and found[shard] == file.path:
            raise MismatchError(f"{file.path} is named twice", "Name it once")
        if shard in found:
            raise MismatchError(f"{found[shard]} and {file.path} are both shard {shard}", "Name one of them")
        found[shard] = file.path
    if not found:
        return
    if others:
        raise MismatchError(f"{others[0]} is no shard, but {next(iter(found.values()))} is", "Name the shards only")
    first = min(found)
    for shard, path in found.items():
        if shard.count != first.count:
            raise MismatchError(
                f"{path} is a shard of {shard.count}, {found[first]} one of {first.count}", "Name shards of one run"
            )
    missing = [str(Shard(i, first.count)) for i in range(1, first.count + 1) if Shard(i, first.count) not in found]
    if missing:
        many = len(missing) > 1
        raise MismatchError(
            f"of {first.count} shards, {f'{len(missing)} are missing: ' if many else ''}{listed(missing)}"
            f"{'' if many else ' is missing'}",
            f"Compute {'them' if many else 'it'} with --shard {missing[0]}{' and so on' if many else ''}",
        )


def _recorded(text: object, path: Path) -> Shard:
    try:
        return Shard.parse(str(text))
    except UsageError:
        raise MismatchError(f"{path} records the shard {text!r}, which is none", "Compute it again") from None


def common_provenance(provenances: Sequence[dict[str, Any]], paths: Sequence[Path]) -> dict[str, Any]:
    """How all of these files were made: as if they had been one.

    The numbers of shards are dropped. Hashes of the boxes of shards become one hash.

    Raises:
        MismatchError: they were made in different ways.
    """
    for provenance, path in zip(provenances, paths, strict=True):
        difference = _difference(provenances[0], provenance)
        if difference is not None:
            raise MismatchError(
                f"{path} was made in another way than {paths[0]} ({difference} differs)", "Name files of one run"
            )
    return _joined(list(provenances))


def _joined(values: list[dict[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in values[0].items():
        every = [one[name] for one in values]
        if name == SHARD:
            continue
        if _is_hash_of_part(name, values[0]):
            made[name] = hashlib.blake2b("".join(sorted(every)).encode(), digest_size=16).hexdigest()
        else:
            made[name] = _joined(every) if isinstance(value, dict) else value
    return made


def _difference(one: dict[str, Any], other: dict[str, Any]) -> str | None:
    """The name of a value in which two provenances differ, apart from what differs between shards."""
    for name in sorted(one.keys() | other.keys()):
        if name == SHARD:
            continue
        if name not in one or name not in other:
            return name
        a, b = one[name], other[name]
        if isinstance(a, dict) and isinstance(b, dict):
            if (inner := _difference(a, b)) is not None:
                return f"{name}.{inner}"
        elif a != b and not (_is_hash_of_part(name, one) and _is_hash_of_part(name, other)):
            return name
    return None


def _is_hash_of_part(name: str, of: dict[str, Any]) -> bool:
    """Whether a value is the hash of the boxes of one shard."""
    return name == "boxes" and SHARD in of and isinstance(of[name], str)
