"""What all formats share when they write a data set: the names of images, and their copies."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from frcnn_cli.core.errors import DataError, explain_os_error
from frcnn_cli.core.splits import SPLIT_FOLDERS
from frcnn_cli.data.dataset import Dataset, Sample

_STRUCTURE = SPLIT_FOLDERS | {"images", "jpegimages", "img", "labels", "annotations", "obj_train_data"}


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


def file_names(datasets: Sequence[Dataset]) -> dict[str, str]:
    """The file name of each image, by key: its path in the data set that was read, without the folders that only belong
    to a layout (`images/train/a.jpg` becomes `a.jpg`), unless two images would then have the same name.

    Raises:
        DataError: two files with the same key.
    """
    unique_keys(datasets)
    whole = {sample.ref.key: _with_ending(sample) for dataset in datasets for sample in dataset.samples}
    splits = {sample.ref.key: dataset.split for dataset in datasets for sample in dataset.samples}
    short = {key: _without_structure(name, splits[key]) for key, name in whole.items()}
    return short if len(set(short.values())) == len(short) else whole


def copy_images(datasets: Sequence[Dataset], folder: Path) -> dict[str, str]:
    """Copies the images of all splits into a folder; returns the name of each below it, by key."""
    names = file_names(datasets)
    for dataset in datasets:
        for sample in dataset.samples:
            copy_image(sample.ref.path, folder / names[sample.ref.key])
    return names


def copy_image(source: Path, target: Path) -> None:
    """Copies an image file. Raises FrcnnError if the system refuses."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    except OSError as error:
        raise explain_os_error(error, target) from None


def _with_ending(sample: Sample) -> str:
    """The key, with the ending of the file, which the keys of VOC's images lack."""
    ending = sample.ref.path.suffix
    return sample.ref.key if sample.ref.key.lower().endswith(ending.lower()) else sample.ref.key + ending


def _without_structure(name: str, split: str) -> str:
    parts = PurePosixPath(name).parts
    kept = [part for part in parts[:-1] if part.lower() not in _STRUCTURE and part != split]
    return "/".join([*kept, parts[-1]])
