"""Labels of single images grouped into splits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from frcnn_cli.core.errors import DataError
from frcnn_cli.core.image import ImageRecord, ImageRef
from frcnn_cli.data.labels import LabelledImage, LabelledObject, Labels


def labels_by_split(
    name: str,
    classes: tuple[str, ...],
    source: Path,
    folder: Path,
    records: Mapping[str, ImageRecord],
    objects: Mapping[str, list[LabelledObject]],
    splits: Mapping[str, str],
) -> list[Labels]:
    """The labels of each split, sorted by its name.

    Args:
        source: the file or folder of the annotations, for messages. folder: the folder of the images.
        records, objects, splits: by the path of each image below `folder`; images without a split are in trainval.

    Raises:
        DataError: a split whose name cannot be part of a file name.
    """
    images: dict[str, list[LabelledImage]] = {}
    for key, found in objects.items():
        size = (float(records[key].width), float(records[key].height))
        image = LabelledImage(ImageRef(key, folder / key), source, size, tuple(found))
        images.setdefault(splits.get(key, "trainval"), []).append(image)
    for split in images:
        if not re.fullmatch(r"[\w-]+", split):
            raise DataError(f"{source}: {split!r} is not the name of a split", "Use letters, digits, - and _")
    return [Labels(name, split, classes, tuple(found)) for split, found in sorted(images.items())]
