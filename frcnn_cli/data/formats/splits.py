"""Labels of single images grouped into splits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from frcnn_cli.core.errors import DataError
from frcnn_cli.core.splits import DEFAULT_SPLIT, SPLIT_FOLDERS
from frcnn_cli.data.labels import LabelledImage, Labels


def by_split(
    name: str,
    layout: str,
    classes: tuple[str, ...],
    images: Iterable[LabelledImage],
    splits: Mapping[str, str] | None = None,
    notes: Iterable[str] = (),
) -> list[Labels]:
    """The labels of each split, sorted by its name; the notes concern all of them.

    Args:
        splits: by key. Without it, a folder called train, val, test and so on is the split; else trainval.

    Raises:
        DataError: a split whose name cannot be part of a file name, or an image that is labelled twice.
    """
    found: dict[str, list[LabelledImage]] = {}
    sources: dict[str, Path] = {}
    for image in images:
        key = image.ref.key
        if key in sources:
            both = f"{sources[key]} and {image.source}" if sources[key] != image.source else f"{image.source} twice"
            raise DataError(f"{key} is labelled by {both}", "Remove one of the labels, or join them")
        sources[key] = image.source
        split = folder_split(key) if splits is None else splits.get(key, DEFAULT_SPLIT)
        check_split(split, image.source)
        found.setdefault(split, []).append(image)
    told = tuple(notes)
    return [
        Labels(name, split, classes, tuple(some), layout=layout, notes=told) for split, some in sorted(found.items())
    ]


def folder_split(key: str) -> str:
    """The split that a folder in the path of an image names; else trainval."""
    folders = PurePosixPath(key).parts[:-1]
    return next((folder for folder in folders if folder.lower() in SPLIT_FOLDERS), DEFAULT_SPLIT)


def check_split(split: str, source: Path) -> str:
    """The name of a split. Raises DataError if it cannot be the name of a file."""
    if not split.strip() or set(split) & set("/\\\0:@+") or not split.isprintable() or split in (".", ".."):
        fix = "Use letters, digits, blanks, dots, - and _"
        raise DataError(f"{source}: {split!r} cannot be the name of a split", fix)
    return split
