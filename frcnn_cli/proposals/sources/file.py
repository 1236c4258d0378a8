"""Boxes that somebody else has computed.

An entry belongs to the image whose key or path it is, or ends: `b/1.jpg`, `1.jpg` and `1` are all entries of
`.../b/1.jpg`, in this order; `a/1.jpg` is not. Boxes are in our one
convention: x1 y1 x2 y2, continuous, 0-based pixels.

| ending | holds |
|---|---|
| .h5 | a proposals file of ours; an image's content must be the one the boxes were made from |
| .npz | an array [N, 4], or [N, 5] with scores, per image, named by its key |
| .csv | a header line and columns image, x1, y1, x2, y2 and perhaps score |
| .json | {"key": [[x1, y1, x2, y2], ...]}, each box perhaps with a score as fifth number |
"""

from __future__ import annotations

import csv
import hashlib
import json
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.errors import FileFormatError, MismatchError, explain_os_error
from frcnn_cli.proposals.hook import Image, Proposals, ProposalSource, option

MAX_UNPACK_RATIO = 1100  # deflate packs 1032 to 1 at most; and an image's boxes are never larger than this:
MAX_ARRAY_BYTES = 1 << 30

Find = Callable[[Image], "NDArray[Any] | None"]  # rows [N, 4] or [N, 5] of one image


@dataclass(frozen=True)
class FileSource(ProposalSource):
    """Boxes read from a file: our own .h5, .npz, .csv or .json."""

    name = "file"
    version = "1"

    path: Path = option(
        help="our .h5; .npz of [N, 4] by image; .csv with image,x1,y1,x2,y2,score; .json {image: [[x1, y1, x2, y2]]}"
    )

    def __post_init__(self) -> None:
        if self.path.suffix.lower() not in _READERS:
            raise ValueError(f"{self.path} ends in none of {' '.join(_READERS)}")
        if not self.path.is_file():
            raise ValueError(f"{self.path} is not a file")

    def described(self) -> dict[str, Any]:
        """With a hash of the file's content: another file under the same path is another source of boxes."""
        with open(self.path, "rb") as file:
            content = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        return {**super().described(), "content": content}

    def prepare(self) -> None:
        _READERS[self.path.suffix.lower()](self.path)

    @cached_property
    def _find(self) -> Find:
        return _READERS[self.path.suffix.lower()](self.path)

    def propose(self, image: Image) -> Proposals:
        rows = self._find(image)
        if rows is None:
            raise MismatchError(
                f"{self.path} has no boxes for image {image.key!r}",
                "Name a file made for these images, or another source",
            )
        rows = _checked(rows, self.path, image)
        return Proposals(rows[:, :4].copy(), rows[:, 4].copy() if rows.shape[1] == 5 else None)


def _checked(rows: NDArray[Any], path: Path, image: Image) -> NDArray[np.float32]:
    """Rows [N, 4 or 5] as float32, inside the image."""
    where = f"{path}: image {image.key!r}"
    if rows.size == 0:
        return np.zeros((0, 5 if rows.shape[-1] == 5 else 4), np.float32)
    if rows.ndim != 2 or rows.shape[1] not in (4, 5) or rows.dtype.kind not in "iuf":
        raise FileFormatError(
            f"{where} has {rows.dtype} {list(rows.shape)}", "Write numbers [N, 4], or [N, 5] with scores"
        )
    rows = rows.astype(np.float32)
    x1, y1, x2, y2 = rows.T[:4]
    bad = ~np.isfinite(rows).all(axis=1) | (x2 < x1) | (y2 < y1)
    bad |= (x1 < -0.01) | (y1 < -0.01) | (x2 > image.width + 0.01) | (y2 > image.height + 0.01)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise FileFormatError(
            f"{where} of {image.width} x {image.height} has {int(bad.sum())} box(es) that are inverted, not finite or"
            f" outside, e.g. number {first}: {' '.join(f'{v:g}' for v in rows[first, :4])}",
            "Boxes are x1 y1 x2 y2 in 0-based pixels, x2 and y2 at most the image's width and height",
        )
    rows[:, :4] = np.clip(rows[:, :4], 0, [image.width, image.height] * 2)
    return rows


def _by_name(table: Mapping[str, Any]) -> Callable[[Image], Any]:
    """Finds an image's entry: its key, or the entry that is the longest end of its key or path, with or without the
    file's ending."""
    by_parts = {Path(name).with_suffix("").parts: name for name in table}
    by_parts |= {Path(name).parts: name for name in table}

    def find(image: Image) -> Any:
        if image.key in table:
            return table[image.key]
        for path in (Path(image.key), *([image.path.absolute()] if image.path else [])):
            for parts in (path.parts, path.with_suffix("").parts):
                for start in range(len(parts)):
                    if parts[start:] in by_parts:
                        return table[by_parts[parts[start:]]]
        return None

    return find


def _read_h5(path: Path) -> Find:
    from frcnn_cli.store.join import Lookup
    from frcnn_cli.store.reader import StageFile
    from frcnn_cli.store.schema import PROPOSALS

    file = StageFile(path, PROPOSALS)
    lookup = Lookup(file.images, str(path))

    def find(image: Image) -> NDArray[Any] | None:
        i = lookup.find(image.record, str(image.path or image.key))
        if i is None:
            return None
        arrays = file[i]
        if "scores" in arrays:
            return np.concatenate([arrays["boxes"], arrays["scores"][:, None]], axis=1)
        return arrays["boxes"]

    return find


def _read_npz(path: Path) -> Find:
    try:
        archive = zipfile.ZipFile(path)
    except OSError as error:
        raise explain_os_error(error, path) from None
    except (ValueError, zipfile.BadZipFile) as error:
        raise FileFormatError(f"{path} is not an .npz file ({error})", "Write it with numpy.savez") from None
    lookup = _by_name({info.filename.removesuffix(".npy"): info for info in archive.infolist()})

    def find(image: Image) -> NDArray[Any] | None:
        info = lookup(image)
        if info is None:
            return None
        if info.file_size > min(MAX_ARRAY_BYTES, max(info.compress_size, 1) * MAX_UNPACK_RATIO):
            raise FileFormatError(f"{path}: {info.filename} claims {info.file_size:,} bytes", "Write the file again")
        try:
            with archive.open(info) as member:
                _check_npy_header(member, info.file_size)
            with archive.open(info) as member:
                return np.asarray(np.lib.format.read_array(member, allow_pickle=False))
        except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            reason = f"{info.filename} cannot be read ({error})"
            raise FileFormatError(f"{path}: {reason}", "Write numbers, not objects") from None

    return find


def _check_npy_header(member: Any, file_size: int) -> None:
    """Refuses an array whose header claims more than its member of the archive holds."""
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(member)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if int(np.prod(shape, dtype=object)) * dtype.itemsize > file_size:
        raise ValueError(f"it claims the shape {list(shape)}")


def _read_csv(path: Path) -> Find:
    rows: dict[str, list[list[float]]] = {}
    line = 1
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            if header[:5] != ["image", "x1", "y1", "x2", "y2"] or header[5:] not in ([], ["score"]):
                raise FileFormatError(
                    f"{path} begins with {','.join(header) or 'nothing'!r}",
                    "Begin with the line image,x1,y1,x2,y2,score",
                )
            for cells in reader:
                line = reader.line_num
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise ValueError(f"{len(cells)} columns instead of {len(header)}")
                boxes = rows.setdefault(cells[0].strip(), [])
                if any(cell.strip() for cell in cells[1:]):  # an image alone on its line has no boxes
                    boxes.append([float(cell) for cell in cells[1:]])
    except OSError as error:
        raise explain_os_error(error, path) from None
    except (ValueError, csv.Error) as error:
        raise FileFormatError(f"{path}, line {line}: {error}", "Write image,x1,y1,x2,y2 and perhaps score") from None
    find = _by_name(rows)

    def as_array(image: Image) -> NDArray[Any] | None:
        found = find(image)
        return None if found is None else np.array(found, np.float64).reshape(-1, len(header) - 1)

    return as_array


def _read_json(path: Path) -> Find:
    try:
        table = json.loads(path.read_bytes())
    except OSError as error:
        raise explain_os_error(error, path) from None
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} is not JSON ({error})", 'Write {"image": [[x1, y1, x2, y2], ...]}') from None
    if not isinstance(table, dict):
        raise FileFormatError(f"{path} holds a {type(table).__name__}", 'Write {"image": [[x1, y1, x2, y2], ...]}')
    find = _by_name(table)

    def as_array(image: Image) -> NDArray[Any] | None:
        found = find(image)
        try:
            return None if found is None else np.array(found, np.float64)
        except (ValueError, TypeError):
            raise FileFormatError(
                f"{path}: image {image.key!r} does not hold boxes", "Write [[x1, y1, x2, y2], ...]"
            ) from None

    return as_array


_READERS: dict[str, Callable[[Path], Find]] = {
    ".h5": _read_h5,
    ".npz": _read_npz,
    ".csv": _read_csv,
    ".json": _read_json,
}
