"""From what a user types (files, folders, @list.txt) to images with keys.

A key is the path below the folder that was named, or the file's name; where two images would share a key, both go by
the path as typed (or, if that is ambiguous too, by their full paths). Results are sorted by key, so that they do not
depend on the order of the inputs.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from frcnn_cli.errors import DataError
from frcnn_cli.image import ImageRef

# What a folder is searched for. A file named outright is tried whatever its ending.
IMAGE_ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".jp2"})


def find_images(arguments: Iterable[str]) -> list[ImageRef]:
    """Files, folders (recursive) and `@list.txt` (a path a line, relative to the list's folder), sorted by key.

    A file that does not exist is kept: the stage that reads it names it and goes on.

    Raises:
        DataError: a folder without images, or a list that cannot be read.
    """
    candidates: dict[str, list[ImageRef]] = {}
    for argument in arguments:
        for ref in _expand(argument):
            candidates.setdefault(os.path.abspath(ref.path), []).append(ref)
    # A file that was named in several ways goes by its longest key, whatever their order.
    found = {path: max(refs, key=lambda ref: (len(ref.key), ref.key)) for path, refs in candidates.items()}
    shared = {key for key, count in Counter(ref.key for ref in found.values()).items() if count > 1}
    typed = {path: ref.path.as_posix() if ref.key in shared else ref.key for path, ref in found.items()}
    if len(set(typed.values())) < len(typed):
        typed = {path: path if found[path].key in shared else key for path, key in typed.items()}
    return sorted(ImageRef(_as_utf8(key), found[path].path) for path, key in typed.items())


def _as_utf8(name: str) -> str:
    """A file name as UTF-8 can write it: bytes that are not UTF-8 become \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _expand(argument: str) -> Iterable[ImageRef]:
    path = Path(argument)
    if argument.startswith("@") and not path.exists():
        yield from _from_list(Path(argument[1:]))
    elif path.is_dir():
        files = [Path(top, name) for top, _, names in os.walk(path) for name in names]
        images = [file for file in files if file.suffix.lower() in IMAGE_ENDINGS and not file.name.startswith(".")]
        if not images:
            endings = " ".join(sorted(IMAGE_ENDINGS))
            raise DataError(f"{path} holds no images", f"Name a folder with image files ({endings})")
        for file in images:
            yield ImageRef(file.relative_to(path).as_posix(), file)
    else:
        yield ImageRef(path.name, path)


def _from_list(path: Path) -> Iterable[ImageRef]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the list {path} cannot be read ({error})", "Give a text file with one path a line") from None
    entries = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not entries:
        raise DataError(f"the list {path} names no images", "Write one path a line")
    for entry in entries:
        yield ImageRef(entry, path.parent / entry)
