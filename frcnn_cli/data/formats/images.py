"""What all formats share when they write a data set: the names of images, and their copies."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from frcnn_cli.core.errors import DataError, explain_os_error
from frcnn_cli.data.dataset import Dataset


def unique_keys(datasets: Sequence[Dataset]) -> list[str]:
    """The keys of all images. Splits may share images, but a key must not stand for two files.

    Raises:
        DataError: two files with the same key.
    """
    files: dict[str, Path] = {}
    for dataset in datasets:
        for sample in dataset.samples:
            path = sample.ref.path.resolve()
            if files.setdefault(sample.ref.key, path) != path:
                both = f"{files[sample.ref.key]} and {path}"
                raise DataError(f"two images are called {sample.ref.key!r} ({both})", "Rename one of them")
    return list(files)


def copy_image(source: Path, target: Path) -> None:
    """Copies an image file. Raises FrcnnError if the system refuses."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    except OSError as error:
        raise explain_os_error(error, target) from None
