"""Images in tar archives, as WebDataset writes them. Nothing is unpacked: an image is read from its place in the
archive, which may be a file or a URL."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, Any, Self

from frcnn_cli.core.errors import DataError, ImageError
from frcnn_cli.core.files import check_regular
from frcnn_cli.core.storage.location import MAX_BYTES
from frcnn_cli.core.storage.patterns import files_of, names_files
from frcnn_cli.core.storage.url import Url, file_system, is_url, readable

PREFIX = "tar:"
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_OPEN = 32  # archives that stay open
_MAX_HEADER = 1 << 20  # bytes of one header; a damaged or malicious one may claim the whole archive
_BLOCK = 8 << 20  # bytes that are read ahead from a URL while headers are searched


@dataclass(frozen=True, order=True)
class TarMember:
    """A member of an archive."""

    archive: str
    member: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.archive}/{self.member}"

    @property
    def name(self) -> str:
        return PurePosixPath(self.member).name

    def read_bytes(self) -> bytes:
        """The content. Raises OSError, ImageError: it cannot be read."""
        if self.size > MAX_BYTES:
            raise ImageError(f"{self} has more than {MAX_BYTES >> 30} GiB", "Remove it from the archive")
        if is_url(self.archive):
            content = Url(self.archive).read_part(self.offset, self.size)
        else:
            file = _opened(self.archive, Path(self.archive).stat().st_mtime_ns)
            # `file` must not be closed by a thread that lets it out of the cache before this one has read.
            content = os.pread(file.fileno(), self.size, self.offset)
        if len(content) < self.size:
            raise ImageError(f"{self} is truncated", "Get the archive again")
        return content

    def absolute(self) -> Self:
        archive = self.archive if is_url(self.archive) else os.path.abspath(self.archive)
        return type(self)(archive, self.member, self.offset, self.size)

    def exists(self) -> bool:
        return is_url(self.archive) or Path(self.archive).exists()


def is_tar(argument: str) -> bool:
    """Whether an argument names archives: `tar:shards/{000..099}.tar`, or a file, pattern or URL that ends in .tar."""
    return argument.startswith(PREFIX) or (argument.endswith((".tar", *_COMPRESSED)) and names_files(argument))


def members(argument: str, endings: frozenset[str]) -> Iterator[tuple[str, TarMember]]:
    """Key and location of every image in archives, in the order in which they are stored. The key is the name of the
    archive without .tar, and the member: 000/cat.jpg.

    Args:
        argument: a pattern with {000..099}, {a,b} or *, with or without `tar:` before it.

    Raises:
        DataError: no archive, an archive without images, compressed, damaged, or unreadable.
    """
    for archive in files_of(argument.removeprefix(PREFIX)):
        if archive.endswith(_COMPRESSED):
            raise DataError(f"{archive} is compressed as a whole", "Unpack it to a .tar, for example with gunzip")
        shard = PurePosixPath(archive).name.removesuffix(".tar")
        found: dict[str, TarMember] = {}
        for info in _headers(archive):
            if info.isreg() and PurePosixPath(info.name).suffix.lower() in endings:
                found.pop(info.name, None)  # of members of one name, the last one counts, as for tar
                found[info.name] = TarMember(archive, info.name, info.offset_data, info.size)
        if not found:
            raise DataError(f"{archive} holds no images", "Name archives with image files")
        for name, member in found.items():
            yield f"{shard}/{_clean(name, archive)}", member


def _clean(name: str, archive: str) -> str:
    """The name of a member as a part of a key. Raises DataError: it leaves the archive's folder."""
    if ".." in PurePosixPath(name).parts:
        raise DataError(f"{archive} has a member named {name!r}", "Write it again with names inside of one folder")
    return name.removeprefix("./").lstrip("/")


def _headers(archive: str) -> Iterator[tarfile.TarInfo]:
    """The headers of an archive, in order.

    Raises:
        DataError: it cannot be read, or is damaged; tarfile itself takes a damaged header for the end.
    """
    damaged = "{} is damaged or truncated at byte {:,}"
    with readable(archive), _raw(archive) as raw, _tar_of(raw) as opened:
        last = -1
        while (info := opened.next()) is not None:
            if info.size < 0 or info.offset <= last or info.issparse():
                raise DataError(damaged.format(archive, info.offset), "Get the archive again")
            last = info.offset
            yield info
            opened.members.clear()  # tarfile keeps all
        raw.seek(opened.offset)
        if raw.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # an archive ends with zeros
            raise DataError(damaged.format(archive, opened.offset), "Get the archive again")


def _tar_of(raw: IO[bytes]) -> Any:
    return tarfile.open(fileobj=_Headers(raw), mode="r:")  # type: ignore[call-overload]


def _raw(archive: str) -> IO[bytes]:
    if not is_url(archive):
        return open(check_regular(Path(archive), DataError), "rb")
    opened: IO[bytes] = file_system(archive).open(archive, "rb", block_size=_BLOCK, cache_type="readahead")
    return opened


class _Headers:
    """The file of an archive while its headers are read: no read is longer than a header."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1, /) -> bytes:
        if not 0 <= size <= _MAX_HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self.file.read(size)


@lru_cache(_OPEN)
def _opened(archive: str, changed: int) -> IO[bytes]:
    """An open archive; `changed` is when it was last written."""
    return open(archive, "rb")
