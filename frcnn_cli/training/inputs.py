"""What the network is shown of an image: its pixels, or its conv map where the conv layers are not trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from frcnn_cli.errors import FileFormatError, MismatchError
from frcnn_cli.features.columns import from_columns
from frcnn_cli.features.transform import ImageTransform
from frcnn_cli.image import Image, ImageRef
from frcnn_cli.store.reader import StageFile
from frcnn_cli.training.colours import Colours


class Input(NamedTuple):
    """tensor: [C, h, w]. scale: resized pixels per original pixel. width: of the original image."""

    tensor: Tensor
    scale: float
    width: int


class Look(NamedTuple):
    """One look at an image: mirrored or not, how large (None: as in detection), in which colours."""

    flip: bool
    short_side: int | None = None
    colours: Colours | None = None


class Inputs(Protocol):
    """Called from several threads."""

    def __call__(self, ref: ImageRef, look: Look) -> Input: ...


@dataclass(frozen=True)
class DecodedImages:
    """Pixels, normalised and resized: float32 [3, h, w]."""

    read: Callable[[ImageRef], Image]
    transform: ImageTransform

    def __call__(self, ref: ImageRef, look: Look) -> Input:
        image = self.read(ref)
        pixels = np.ascontiguousarray(image.pixels[:, ::-1]) if look.flip else image.pixels
        if look.colours is not None:
            pixels = look.colours(pixels)
        transform = self.transform if look.short_side is None else replace(self.transform, short_side=look.short_side)
        resized, scale = transform(pixels)
        return Input(resized, scale, image.width)


@dataclass(frozen=True)
class CachedMaps:
    """Conv maps out of a features file, of images and of their mirror images: float [C, h, w]."""

    file: StageFile
    rows: Mapping[str, int]  # image of the training set, by key -> image of the file

    def check_settings(self, settings: Mapping[str, object], flip: bool) -> None:
        """Raises MismatchError where the maps were made with other settings, or mirrored ones are missing.

        Args:
            settings: names and values as `frcnn features` records them.
        """
        for name, value in settings.items():
            made_with = self.file.provenance.get(name, value)
            if made_with != value:
                raise MismatchError(
                    f"the maps of {self.file.path} were made with {name.replace('_', ' ')} {made_with}, not {value}",
                    f"Write --{name.replace('_', '-')} {made_with}, or make the maps anew",
                )
        if flip and "mirrored" not in self.file.column_shapes:
            raise MismatchError(
                f"{self.file.path} holds no maps of mirrored images",
                "Make it with frcnn features --mirrored, or train with --no-flip",
            )

    def check_weights(self, features_id: str) -> None:
        """Raises MismatchError where the maps are those of other conv layers, or of images otherwise prepared."""
        if self.file.provenance["features_id"] != features_id:
            raise MismatchError(
                f"the maps of {self.file.path} were computed with other weights, or of images otherwise prepared",
                "Give both commands the same --weights, and leave images.* but for its sides",
            )

    def __call__(self, ref: ImageRef, look: Look) -> Input:
        row = self.rows[ref.key]
        columns = self.file.read(row, ("mirrored" if look.flip else "maps", "map_size", "scale"))
        columns["maps"] = columns.pop("mirrored" if look.flip else "maps")
        try:
            features, scale = from_columns(columns)
        except ValueError as error:
            raise FileFormatError(f"{self.file.path}: image {ref.key!r} ({error})", "Make it anew") from None
        if not isinstance(features, Tensor) or not isinstance(scale, float):
            raise MismatchError(
                f"the maps of {self.file.path} are of images in several sizes",
                "Make them in one: images.test_short_sides",
            )
        if not bool(torch.isfinite(features).all()):
            raise FileFormatError(f"{self.file.path}: the map of {ref.key!r} is not finite", "Make it anew")
        return Input(features[0], scale, self.file.images[row].width)
