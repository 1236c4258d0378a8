"""An image: where it is stored, its identity, and its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.equality import ArrayRecord
from frcnn_cli.core.errors import DataError
from frcnn_cli.core.storage.location import Location


@dataclass(frozen=True, order=True)
class ImageRef:
    """An image that has not been read: its key, and its file or where else its bytes are."""

    key: str
    location: Path | Location

    @property
    def path(self) -> Path:
        """The file. Raises DataError: the image is no file of this machine."""
        if not isinstance(self.location, Path):
            raise DataError(f"{self.location} is no file of this machine", "Copy the images to a folder first")
        return self.location

    @property
    def file(self) -> Path | None:
        """The file; None if the image is no file of this machine."""
        return self.location if isinstance(self.location, Path) else None


@dataclass(frozen=True, order=True)
class ImageRecord:
    """The identity of an image: one row of the `images/` table that every HDF5 file of frcnn holds.

    Stages join on `key` and refuse to join rows whose `digest` differs.
    """

    key: str
    height: int  # pixels, after undoing the EXIF orientation
    width: int
    digest: str  # BLAKE2b-128 of the file's bytes (of the pixels for an image without a file), hexadecimal
    orientation: int = 1  # EXIF orientation, 1 to 8, that was undone on reading


@dataclass(frozen=True, eq=False, repr=False)
class Image(ArrayRecord):
    """One decoded image; what a proposal source receives.

    pixels: uint8 [H, W, 3], RGB, upright, read-only.

    Raises:
        ValueError: pixels of another dtype or shape, or of another size than the record states.
    """

    pixels: NDArray[np.uint8]
    record: ImageRecord
    path: Path | None = None

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 3 or self.pixels.shape[2] != 3:
            raise ValueError(
                f"expected uint8 pixels [H, W, 3] in RGB, got {self.pixels.dtype} {list(self.pixels.shape)}"
            )
        if self.pixels.shape[:2] != (self.record.height, self.record.width):
            raise ValueError(f"pixels of shape {list(self.pixels.shape)} do not match the record {self.record}")
        if 0 in self.pixels.shape:
            raise ValueError(f"an image of {self.pixels.shape[1]} x {self.pixels.shape[0]} pixels is empty")
        if self.pixels.flags.writeable:
            view = self.pixels.view()
            view.flags.writeable = False
            object.__setattr__(self, "pixels", view)

    def __repr__(self) -> str:
        return f"Image({self.key!r}, {self.width} x {self.height} pixels)"

    @property
    def key(self) -> str:
        return self.record.key

    @property
    def height(self) -> int:
        return self.record.height

    @property
    def width(self) -> int:
        return self.record.width

    @classmethod
    def from_array(cls, pixels: NDArray[np.uint8], key: str = "image") -> Image:
        """An image without a file: uint8 [H, W, 3] RGB, or [H, W] gray."""
        import hashlib

        pixels = np.ascontiguousarray(np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels)
        digest = hashlib.blake2b(repr(pixels.shape).encode() + pixels.tobytes(), digest_size=16).hexdigest()
        return cls(pixels, ImageRecord(key, pixels.shape[0], pixels.shape[1], digest))
