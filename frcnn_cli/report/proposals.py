"""Proposals drawn on their image: the best ones, or those that cover the objects best."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.annotations import GroundTruth
from frcnn_cli.core.boxes import Boxes, iou
from frcnn_cli.core.decoding import digest_file
from frcnn_cli.core.drawing import class_colour, draw_boxes
from frcnn_cli.core.errors import DataError, MismatchError
from frcnn_cli.core.image import Image
from frcnn_cli.data.load import load_dataset, splits_of
from frcnn_cli.store.join import Lookup
from frcnn_cli.store.schema import PROPOSALS
from frcnn_cli.store.stage import open_stage

_COVERING, _OBJECT, _POOR = (70, 200, 90), (250, 200, 40), (235, 60, 60)
_COVERED = 0.5  # IoU


@dataclass(frozen=True)
class CoveredObject:
    """An object, the IoU of the proposal that covers it best, and the rank of that proposal (from 1; None: none)."""

    name: str
    iou: float
    rank: int | None

    @property
    def covered(self) -> bool:
        return self.iou >= _COVERED


def boxes_of_image(path: Path, image: Image) -> Boxes:
    """The boxes of an image in a proposals file. Raises MismatchError if there are none."""
    with open_stage(path, PROPOSALS) as file:
        row = Lookup(file.images, str(path)).find(image.record, str(image.path or image.key))
        if row is None:
            raise MismatchError(f"{path} has no boxes for {image.path}", "Name an image that it was computed from")
        boxes: Boxes = file[row]["boxes"]
        return boxes


def objects_of_image(image: Image, data: str, split: str | None = None) -> tuple[GroundTruth, tuple[str, ...]]:
    """The objects of an image, found by name and content in a data set, and the class names.

    Args:
        split: by default, the splits are searched one after the other.
    """
    for name in [split] if split else splits_of(data):
        dataset = load_dataset(data, name, "fix")
        for sample in dataset:
            if sample.ref.path.stem == Path(image.key).stem and digest_file(sample.ref.path) == image.record.digest:
                return sample.truth, dataset.classes
    raise DataError(f"{data} does not hold the image {image.path}", "Name the data set and split that it belongs to")


def draw_best(image: Image, boxes: Boxes) -> NDArray[np.uint8]:
    """The image with numbered boxes."""
    colours = [class_colour(i, len(boxes)) for i in range(len(boxes))]
    return draw_boxes(image.pixels, boxes, [str(i + 1) for i in range(len(boxes))], colours)


def draw_coverage(
    image: Image, boxes: Boxes, truth: GroundTruth, classes: tuple[str, ...]
) -> tuple[NDArray[np.uint8], list[CoveredObject]]:
    """The image with its objects (yellow) and the box that covers each best (green, or red below IoU 0.5)."""
    overlaps = iou(boxes, truth.boxes)
    objects, covering, texts, colours = [], [], [], []
    for j, value in enumerate(overlaps.max(axis=0, initial=0.0).tolist()):
        best = int(overlaps[:, j].argmax()) if value > 0 else None
        objects.append(CoveredObject(classes[truth.labels[j]], value, None if best is None else best + 1))
        if best is not None:
            covering.append(boxes[best])
            texts.append(f"{value:.2f}")
            colours.append(_COVERING if value >= _COVERED else _POOR)
    drawn = np.concatenate([np.array(covering, np.float32).reshape(-1, 4), truth.boxes])
    texts += [""] * len(truth)
    return draw_boxes(image.pixels, drawn, texts, colours + [_OBJECT] * len(truth)), objects
