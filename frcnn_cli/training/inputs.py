"""What the network reads of an image: its pixels, or its conv map if the conv layers are not trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import torch

from frcnn_cli.core.errors import FileFormatError, MismatchError
from frcnn_cli.core.image import Image, ImageRef
from frcnn_cli.features.coding import Coding, columns_of
from frcnn_cli.features.columns import from_columns
from frcnn_cli.features.transform import ImageTransform
from frcnn_cli.roi.levels import Map, Scale, as_tuple, mapped
from frcnn_cli.store.reader import StageFile
from frcnn_cli.store.schema import FEATURES
from frcnn_cli.store.stage import open_stage
from frcnn_cli.training.view import View


class Input(NamedTuple):
    """tensor: [C, h, w], or a tuple of them, the levels of a pyramid. scale: resized pixels per original pixel.
    width: of the original image in pixels."""

    tensor: Map
    scale: Scale
    width: int


class Inputs(Protocol):
    """Reads one view of an image. Called from worker processes."""

    def __call__(self, ref: ImageRef, view: View) -> Input: ...


@dataclass(frozen=True)
class DecodedImages:
    """Pixels, resized and normalised: float32 [3, h, w]."""

    read: Callable[[ImageRef], Image]
    transform: ImageTransform

    def __call__(self, ref: ImageRef, view: View) -> Input:
        image = self.read(ref)
        transform = self.transform if view.short_side is None else replace(self.transform, short_side=view.short_side)
        resized, scale = transform(view.of_pixels(image.pixels))
        return Input(resized, scale, image.width)


@dataclass(frozen=True)
class CachedMaps:
    """Conv maps from a features file, of images and of mirrored images: float [C, h, w].

    rows: the key of an image of the training set -> its index in the file.
    """

    file: StageFile
    rows: Mapping[str, int]

    @cached_property
    def coding(self) -> Coding:
        return Coding.of(self.file.provenance, self.file.path)

    def __getstate__(self) -> dict[str, Any]:
        """The state for worker processes, which open the file themselves."""
        return {"path": self.file.path, "rows": self.rows}

    def __setstate__(self, state: dict[str, Any]) -> None:
        object.__setattr__(self, "file", open_stage(state["path"], FEATURES))
        object.__setattr__(self, "rows", state["rows"])

    def check_settings(self, settings: Mapping[str, object], flip: bool) -> None:
        """Raises MismatchError if the maps were computed with other settings, or those of mirrored images are missing.

        Args:
            settings: names and values as `frcnn features` records them.
        """
        for name, value in settings.items():
            made_with = self.file.provenance.get(name, value)
            if made_with != value:
                raise MismatchError(
                    f"the maps of {self.file.path} were made with {name.replace('_', ' ')} {made_with}, not {value}",
                    f"Write {_written(name, made_with)}, or compute the maps again",
                )
        if flip and "mirrored" not in self.file.column_shapes:
            raise MismatchError(
                f"{self.file.path} holds no maps of mirrored images",
                "Compute it with frcnn features --mirrored, or train with --no-flip",
            )

    def check_weights(self, features_id: str) -> None:
        """Raises MismatchError if the maps were computed by other conv layers or from images transformed otherwise."""
        if self.file.provenance["features_id"] != features_id:
            raise MismatchError(
                f"the maps in {self.file.path} were made with other weights or another image transform",
                "Use the same --weights in both commands; of the section images, change only short_side and long_side",
            )

    def __call__(self, ref: ImageRef, view: View) -> Input:
        row = self.rows[ref.key]
        name = "mirrored" if view.flip else "maps"
        there = [column for column in columns_of(name) if column in self.file.column_shapes]
        try:
            columns = self.coding.decoded(self.file.read(row, (*there, "map_size", "scale")))
            columns["maps"] = columns.pop(name)
            features, scale = from_columns(columns)
        except ValueError as error:
            raise FileFormatError(f"{self.file.path}: image {ref.key!r} ({error})", "Compute it again") from None
        if isinstance(features, list) or isinstance(scale, list):
            raise MismatchError(
                f"{self.file.path} holds maps at several scales",
                "Compute them with images.test_short_sides empty",
            )
        if not all(bool(torch.isfinite(one).all()) for one in as_tuple(features)):
            raise FileFormatError(f"{self.file.path}: the map of {ref.key!r} is not finite", "Compute it again")
        return Input(mapped(lambda one: one[0], features), scale, self.file.images[row].width)


def _written(name: str, value: Any) -> str:
    """How a setting of `frcnn features` is written for `frcnn train`."""
    if name == "fine":
        return f"--set network.fine={str(value).lower()}"
    return f"--{name.replace('_', '-')} {value}"
