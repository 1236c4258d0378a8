"""PASCAL VOC layout: `Annotations/KEY.xml`, `JPEGImages/KEY.jpg`, `ImageSets/Main/SPLIT.txt`.

Corners in the XML are 1-based and inside the box; they become `(xmin-1, ymin-1, xmax, ymax)` (see `boxes`). Class names
are whatever the annotations hold, sorted, over all annotations of the folder, so that every split counts alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree.ElementTree import Element, ParseError

import numpy as np

from frcnn_cli import boxes as B
from frcnn_cli.annotations import GroundTruth
from frcnn_cli.data.dataset import Dataset, Sample
from frcnn_cli.data.find import IMAGE_ENDINGS
from frcnn_cli.errors import DataError
from frcnn_cli.image import ImageRef

MAX_XML_BYTES = 16_000_000

BadBoxes = Literal["error", "fix"]


@dataclass(frozen=True)
class _Object:
    name: str
    corners: tuple[float, float, float, float]  # xmin ymin xmax ymax as written
    difficult: bool


@dataclass(frozen=True)
class _Annotation:
    path: Path
    size: tuple[float, float] | None  # width, height as written, if they are
    objects: tuple[_Object, ...]


def read_voc(folder: Path, split: str, bad_boxes: BadBoxes = "error") -> Dataset:
    """Reads one split of a folder in VOC layout.

    Args:
        bad_boxes: what to do with a box that has no area (xmax <= xmin) or reaches outside its image (xmin < 1):
            "error" stops and names the first, "fix" leaves the former out and cuts the latter to the image; the data
            set's `notes` say how many.

    Raises:
        DataError: no such folder or split, an image of the split without file or annotation, XML that cannot be read.
    """
    refs = read_voc_images(folder, split)
    annotations = _read_annotations(folder / "Annotations", [ref.key for ref in refs])
    classes = tuple(sorted({obj.name for annotation in annotations.values() for obj in annotation.objects}))
    if not classes:
        raise DataError(f"no annotation in {folder / 'Annotations'} holds an object", "Label some objects first")
    mender = _Mender(bad_boxes)
    samples = tuple(Sample(ref, mender.ground_truth(annotations[ref.key], classes)) for ref in refs)
    return Dataset(folder.name, split, classes, samples, tuple(mender.notes()))


def read_voc_images(folder: Path, split: str, as_listed: bool = False) -> list[ImageRef]:
    """The images of one split, sorted by key or in the order of the list; annotations are not looked at.

    Raises:
        DataError: no such folder or split, or an image of the split without file.
    """
    keys = _read_split(folder, split)
    files = _index_images(folder / "JPEGImages")
    for key in keys:
        if key not in files:
            place = folder / "JPEGImages"
            raise DataError(f"{place} has no image for {key!r}", f"Add it, or take {key} out of split {split!r}")
    return [ImageRef(key, files[key]) for key in (keys if as_listed else sorted(keys))]


def voc_splits(folder: Path) -> list[str]:
    """The splits that a folder has; lists of one class (`cat_train`) are none."""
    return sorted(path.stem for path in (folder / "ImageSets" / "Main").glob("*.txt") if "_" not in path.stem)


def _read_split(folder: Path, split: str) -> list[str]:
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder", "Name a folder in VOC layout (JPEGImages, Annotations, ImageSets)")
    sets = folder / "ImageSets" / "Main"
    path = sets / f"{split}.txt"
    if not path.is_file():
        have = voc_splits(folder)
        known = f"It has: {', '.join(have)}" if have else f"Write the keys of its images, one a line, to {path}"
        raise DataError(f"{folder} has no split {split!r}", known)
    try:
        keys = [line.split()[0] for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text", "Write one image key a line") from None
    if not keys:
        raise DataError(f"{path} names no images", "Write one image key a line")
    return list(dict.fromkeys(keys))


def _index_images(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"{folder} is not there", "VOC layout keeps its images in JPEGImages")
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_ENDINGS}


def _read_annotations(folder: Path, keys: Sequence[str]) -> dict[str, _Annotation]:
    found = {path.stem: path for path in sorted(folder.glob("*.xml"))} if folder.is_dir() else {}
    for key in keys:
        if key not in found:
            raise DataError(
                f"{folder / (key + '.xml')} is missing: image {key!r} has no annotation",
                "Add the file (without objects if there are none), or take the image out of the split",
            )
    return {key: _read_annotation(path) for key, path in found.items()}


def _read_annotation(path: Path) -> _Annotation:
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import parse

    try:
        if path.stat().st_size > MAX_XML_BYTES:
            raise DataError(f"{path} is larger than any annotation", "Check the file")
        root: Element = parse(path, forbid_dtd=True).getroot()
    except (ParseError, DefusedXmlException, OSError, ValueError, LookupError) as error:
        raise DataError(f"{path} is not XML that can be read ({error})", "Write the annotation again") from None
    objects = tuple(_read_object(element, path) for element in root.iter("object"))
    width, height = root.findtext("size/width"), root.findtext("size/height")
    try:
        size = (float(width), float(height)) if width and height else None
    except ValueError:
        size = None
    return _Annotation(path, size if size and min(size) > 0 else None, objects)


def _read_object(element: Element, path: Path) -> _Object:
    name = (element.findtext("name") or "").strip()
    if not name:
        raise DataError(f"{path}: an object has no name", "Give every object a <name>")
    try:
        xmin, ymin, xmax, ymax = (float(element.findtext(f"bndbox/{tag}") or "") for tag in _CORNERS)
    except ValueError:
        raise DataError(f"{path}: {name} has no whole bndbox", f"Give it numbers for {', '.join(_CORNERS)}") from None
    if not all(map(math.isfinite, (xmin, ymin, xmax, ymax))):
        raise DataError(f"{path}: {name} has a corner that is not a finite number", "Correct its bndbox")
    return _Object(name, (xmin, ymin, xmax, ymax), (element.findtext("difficult") or "0").strip() == "1")


_CORNERS = ("xmin", "ymin", "xmax", "ymax")


class _Mender:
    """Turns annotations into ground truth; stops at a bad box, or mends it and keeps count."""

    def __init__(self, bad_boxes: BadBoxes) -> None:
        self.bad_boxes = bad_boxes
        self.dropped: list[str] = []
        self.clipped: list[str] = []

    def ground_truth(self, annotation: _Annotation, classes: tuple[str, ...]) -> GroundTruth:
        boxes, labels, difficult = [], [], []
        for obj in annotation.objects:
            corners = self._mended(annotation, obj)
            if corners is not None:
                boxes.append(corners)
                labels.append(classes.index(obj.name))
                difficult.append(obj.difficult)
        if not boxes:
            return GroundTruth(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
        return GroundTruth(B.from_inclusive(np.array(boxes), base=1), np.array(labels), np.array(difficult))

    def _mended(self, annotation: _Annotation, obj: _Object) -> tuple[float, float, float, float] | None:
        xmin, ymin, xmax, ymax = obj.corners
        width, height = annotation.size or (math.inf, math.inf)
        where = f"{annotation.path}: {obj.name} {xmin:g} {ymin:g} {xmax:g} {ymax:g}"
        if xmax <= xmin or ymax <= ymin or xmin > width or ymin > height or xmax < 1 or ymax < 1:
            if self.bad_boxes == "error":
                raise DataError(f"{where} has no area", "Correct it, or leave such boxes out with --bad-boxes fix")
            self.dropped.append(where)
            return None
        if xmin < 1 or ymin < 1 or xmax > width or ymax > height:
            if self.bad_boxes == "error":
                raise DataError(
                    f"{where} reaches outside its image (VOC counts pixels from 1)",
                    "Correct it, or cut such boxes to the image with --bad-boxes fix",
                )
            self.clipped.append(where)
        return max(xmin, 1.0), max(ymin, 1.0), min(xmax, width), min(ymax, height)

    def notes(self) -> list[str]:
        notes = []
        if self.dropped:
            notes.append(f"left out {len(self.dropped)} box(es) without area, e.g. {self.dropped[0]}")
        if self.clipped:
            notes.append(f"cut {len(self.clipped)} box(es) to their image, e.g. {self.clipped[0]}")
        return notes
