"""The vectors of the boxes of one image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.boxes import Boxes
from frcnn_cli.core.errors import FileFormatError


@dataclass(frozen=True, eq=False)
class BoxVectors:
    """The boxes of one image, each with its vector.

    key: of the image. height, width: in pixels; 0 if unknown.
    boxes: float32 [N, 4], x1 y1 x2 y2 in pixels.
    vectors: float16 or float32 [N, D].
    labels: int64 [N], the most probable class of each box, and scores: float32 [N], its probability; None if unknown.
    proposals: int64 [N], the index of the proposal that each box was found from; None if unknown.

    Raises:
        ValueError: arrays of different lengths or shapes.
    """

    key: str
    height: int
    width: int
    boxes: Boxes
    vectors: NDArray[Any]
    labels: NDArray[np.int64] | None = None
    scores: NDArray[np.float32] | None = None
    proposals: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        count = len(self.boxes)
        if self.boxes.shape != (count, 4) or self.vectors.ndim != 2 or len(self.vectors) != count:
            raise ValueError(f"boxes {list(self.boxes.shape)} and vectors {list(self.vectors.shape)}")
        for name in ("labels", "scores", "proposals"):
            values = getattr(self, name)
            if values is not None and values.shape != (count,):
                raise ValueError(f"{count} boxes, but {name} {list(values.shape)}")

    def __len__(self) -> int:
        return len(self.boxes)


def to_columns(found: BoxVectors) -> dict[str, NDArray[Any]]:
    """The columns of a file of vectors."""
    columns: dict[str, NDArray[Any]] = {"boxes": found.boxes, "vectors": found.vectors}
    for name, kind in (("labels", np.int32), ("scores", np.float32), ("proposals", np.int32)):
        values = getattr(found, name)
        if values is not None:
            columns[name] = values.astype(kind)
    return columns


def from_columns(columns: Mapping[str, NDArray[Any]], key: str, height: int, width: int) -> BoxVectors:
    """The inverse of `to_columns`."""
    optional: dict[str, Any] = {
        name: columns[name].astype(kind)
        for name, kind in (("labels", np.int64), ("scores", np.float32), ("proposals", np.int64))
        if name in columns
    }
    return BoxVectors(key, height, width, columns["boxes"], columns["vectors"], **optional)


def checked_key(key: str, path: object) -> str:
    """The key of an image in an untrusted file. Raises FileFormatError if it is empty or holds control characters."""
    if not key.strip() or any(ord(letter) < 32 for letter in key):
        raise FileFormatError(f"{path} names an image {key[:60]!r}", "Name images by paths or numbers")
    return key


def file_name_of(key: str) -> str:
    """The name of a file for an image, relative to a folder: its key, without the slash of an absolute path.

    Raises:
        FileFormatError: the key would lead out of the folder.
    """
    parts = [part for part in key.replace("\\", "/").split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        raise FileFormatError(f"the image {key[:60]!r} cannot be the name of a file", "Name images by paths without ..")
    return "/".join(parts)
