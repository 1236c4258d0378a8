"""From paths (files, folders, @list.txt) to images with keys.

The key of an image is its path below the folder that was named, or its file name. If two images would share a key, both
get their path as typed, or, if that is ambiguous too, their full path. Results are sorted by key, so that they do not
depend on the order of the inputs; images inside archives and tables stay in the order in which they are stored.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from frcnn_cli.core.decoding import IMAGE_ENDINGS
from frcnn_cli.core.errors import DataError
from frcnn_cli.core.files import check_regular, decode_text, files_below
from frcnn_cli.core.image import ImageRef
from frcnn_cli.core.storage import parquet, tar
from frcnn_cli.core.storage.parquet import Cell, cells, is_parquet
from frcnn_cli.core.storage.tar import TarMember, is_tar, members
from frcnn_cli.core.storage.url import Url, files_at, is_url


class HasRefs(Protocol):
    """Something that lists images, such as a `Dataset`."""

    @property
    def refs(self) -> Sequence[ImageRef]: ...


Images = HasRefs | str | Path | Iterable[str | Path | ImageRef]


def image_refs(images: Images) -> list[ImageRef]:
    """The images that a caller means.

    Args:
        images: a `Dataset`; the path of a file, a folder, or `@list.txt`, a URL, archives or a table as `find_images`
            takes them; or a list of such texts or of `ImageRef`.

    Raises:
        DataError: a folder without images, or a list that cannot be read.
    """
    if hasattr(images, "refs"):
        return list(images.refs)
    if isinstance(images, (str, Path)):
        return find_images([str(images)])
    given = list(images)
    refs = [image for image in given if isinstance(image, ImageRef)]
    if len(refs) == len(given):
        return refs
    return _with_keys(ref for one in given for ref in ([one] if isinstance(one, ImageRef) else _expand(str(one))))


def find_images(arguments: Iterable[str]) -> list[ImageRef]:
    """The images in files, folders (recursive) and lists; behind URLs (`s3://bucket/folder/`, `https://host/a.jpg`); in
    archives (`tar:shards/{000..099}.tar`) and Parquet tables (`parquet:FILE#COLUMN`).

    A line of `@list.txt` is the path of an image, relative to the list, a URL, archives, or a table.

    A file that does not exist is included: the stage that reads it reports it and continues.

    Raises:
        DataError: a folder without images, or something that cannot be read. FrcnnError: a package is missing.
    """
    return _with_keys(ref for argument in arguments for ref in _expand(argument))


def is_elsewhere(argument: str) -> bool:
    """Whether an argument names images that are no files: a URL, archives, or a table."""
    return is_url(argument) or is_tar(argument) or is_parquet(argument)


def _with_keys(refs: Iterable[ImageRef]) -> list[ImageRef]:
    """Images with one key each, and each image once."""
    candidates: dict[str, list[ImageRef]] = {}
    for ref in refs:
        one = os.path.abspath(ref.location) if isinstance(ref.location, Path) else str(ref.location.absolute())
        candidates.setdefault(one, []).append(ref)
    # A file that was named in several ways gets its longest key, whatever their order.
    found = {path: max(refs, key=lambda ref: (len(ref.key), ref.key)) for path, refs in candidates.items()}
    shared = {key for key, count in Counter(ref.key for ref in found.values()).items() if count > 1}
    typed = {path: _as_typed(ref) if ref.key in shared else ref.key for path, ref in found.items()}
    if len(set(typed.values())) < len(typed):
        typed = {path: path if found[path].key in shared else key for path, key in typed.items()}
    made = [ImageRef(_as_utf8(key), found[path].location) for path, key in typed.items()]
    return made if all(isinstance(ref.location, (TarMember, Cell)) for ref in made) else sorted(made)


def _as_typed(ref: ImageRef) -> str:
    return f"{ref.location.table}/{ref.key}" if isinstance(ref.location, Cell) else str(ref.location)


def images_below(folder: Path) -> list[ImageRef]:
    """Every image file below a folder; keys are paths below it."""
    found = files_below(folder, *IMAGE_ENDINGS)
    return [ImageRef(path.relative_to(folder).as_posix(), path) for path in found]


def _as_utf8(name: str) -> str:
    """A file name as UTF-8; bytes that are not UTF-8 become \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _expand(argument: str) -> Iterable[ImageRef]:
    path = Path(argument)
    if is_tar(argument):
        yield from (ImageRef(key, member) for key, member in members(argument, IMAGE_ENDINGS))
    elif is_parquet(argument):
        yield from (ImageRef(key, cell) for key, cell in cells(argument))
    elif is_url(argument):
        yield from (ImageRef(key, url) for key, url in files_at(argument, IMAGE_ENDINGS))
    elif argument.startswith("@") and not path.exists():
        yield from _from_list(Path(argument[1:]))
    elif path.is_dir():
        images = files_below(path, *IMAGE_ENDINGS)
        if not images:
            endings = " ".join(sorted(IMAGE_ENDINGS))
            fix = f"Name a folder with image files ({endings}), or archives: 'tar:{path}/*.tar'"
            raise DataError(f"{path} holds no images", fix)
        for file in images:
            yield ImageRef(file.relative_to(path).as_posix(), file)
    else:
        yield ImageRef(path.name, path)


def _from_list(path: Path) -> Iterable[ImageRef]:
    try:
        lines = decode_text(check_regular(path, DataError).read_bytes()).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"the list {path} cannot be read ({error})", "Write a text file with one path per line"
        ) from None
    entries = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not entries:
        raise DataError(f"the list {path} is empty", "Write one path per line")
    for entry in entries:
        argument = _relative_to(path.parent, entry)
        if is_tar(argument) or is_parquet(argument):
            yield from _expand(argument)
        else:
            yield ImageRef(entry, Url(entry) if is_url(entry) else path.parent / entry)


def _relative_to(folder: Path, entry: str) -> str:
    """A line of a list as an argument of the command line."""
    prefix = next((one for one in (tar.PREFIX, parquet.PREFIX) if entry.startswith(one)), "")
    place = entry.removeprefix(prefix)
    return prefix + (place if is_url(place) else str(folder / place))
