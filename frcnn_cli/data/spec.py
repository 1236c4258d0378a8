"""From what a user types for a data set (`voc`, `voc:DIR`) to the data set."""

from __future__ import annotations

import os
from pathlib import Path

from frcnn_cli.data.dataset import Dataset
from frcnn_cli.data.voc import BadBoxes, read_voc, read_voc_images, voc_splits
from frcnn_cli.errors import DataError
from frcnn_cli.image import ImageRef

VOC_YEARS = ("VOC2007", "VOC2012")


def is_dataset_spec(text: str) -> bool:
    """Whether `text` names a data set rather than a file or folder."""
    return text == "voc" or text.startswith("voc:")


def load_dataset(spec: str, split: str, bad_boxes: BadBoxes = "error") -> Dataset:
    """Reads the data set that `spec` names.

    `voc:DIR` is a folder in VOC layout, or one that holds a `VOCdevkit`; `voc` alone looks in `$FRCNN_DATA` and then in
    `./data` (see `find_devkit`).

    Raises:
        DataError: an unknown kind of data set, or none found.
    """
    return read_voc(_folder(spec), split, bad_boxes)


def load_image_refs(spec: str, split: str, as_listed: bool = False) -> list[ImageRef]:
    """The images of a data set alone, sorted by key or in the order of its own list; annotations are not read."""
    return read_voc_images(_folder(spec), split, as_listed)


def splits_of(spec: str) -> list[str]:
    """The splits of the data set that `spec` names."""
    return voc_splits(_folder(spec))


def _folder(spec: str) -> Path:
    kind, _, where = spec.partition(":")
    if kind != "voc":
        raise DataError(f"{spec!r} does not name a data set", "Write voc, or voc:DIR for a folder in VOC layout")
    return _voc_folder(Path(where)) or Path(where) if where else find_devkit()


def find_devkit() -> Path:
    """The VOC folder that `voc` alone means.

    Raises:
        DataError: none is there; the message lists every place that was looked in.
    """
    roots = [Path(os.environ["FRCNN_DATA"])] if os.environ.get("FRCNN_DATA") else []
    roots.append(Path("data"))
    for root in roots:
        folder = _voc_folder(root)
        if folder is not None:
            return folder
    places = ", ".join(str(place) for root in roots for place in (root, root / "VOCdevkit"))
    raise DataError(
        f"no VOC data set found; looked in {places} for Annotations or {' or '.join(VOC_YEARS)}",
        "Set FRCNN_DATA to the folder that holds VOCdevkit, or write --data voc:DIR",
    )


def _voc_folder(root: Path) -> Path | None:
    for base in (root, root / "VOCdevkit"):
        for folder in (base, *(base / year for year in VOC_YEARS)):
            if (folder / "Annotations").is_dir():
                return folder
    return None
