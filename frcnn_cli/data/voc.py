"""PASCAL VOC layout: `Annotations/KEY.xml`, `JPEGImages/KEY.jpg`, `ImageSets/Main/SPLIT.txt`.

Corners in the XML are 1-based and inside the box; they become `(xmin-1, ymin-1, xmax, ymax)` (see `boxes`). Class names
are whatever the annotations hold, sorted, over all annotations of the folder, so that every split counts alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from frcnn_cli.data.dataset import Dataset
from frcnn_cli.data.find import IMAGE_ENDINGS
from frcnn_cli.data.labels import BadBoxes, LabelledImage, LabelledObject, Labels, sound
from frcnn_cli.errors import DataError
from frcnn_cli.image import ImageRef

MAX_XML_BYTES = 16_000_000


def read_voc(folder: Path, split: str, bad_boxes: BadBoxes = "error") -> Dataset:
    """Reads one split of a folder in VOC layout; see `read_voc_labels` and `Labels.dataset`."""
    return read_voc_labels(folder, split).dataset(bad_boxes)


def read_voc_labels(folder: Path, split: str, problems: list[DataError] | None = None) -> Labels:
    """One split as it is annotated.

    Args:
        problems: takes what is wrong with one image, which is then left out; by default that is raised.

    Raises:
        DataError: no such folder or split, an image of the split without file or annotation, XML that cannot be read.
    """
    refs = read_voc_images(folder, split, as_listed=True, problems=problems)
    annotations = _read_annotations(folder / "Annotations", [ref.key for ref in refs], problems)
    refs = [ref for ref in refs if ref.key in annotations]
    classes = tuple(sorted({obj.name for _, objects in annotations.values() for obj in objects}))
    if not classes:
        raise DataError(f"no annotation in {folder / 'Annotations'} holds an object", "Label some objects first")
    images = tuple(
        LabelledImage(ref, folder / "Annotations" / f"{ref.key}.xml", *annotations[ref.key], least=1.0) for ref in refs
    )
    return Labels(folder.name, split, classes, images)


def read_voc_images(
    folder: Path, split: str, as_listed: bool = False, problems: list[DataError] | None = None
) -> list[ImageRef]:
    """The images of one split, sorted by key or in the order of the list; annotations are not looked at.

    Raises:
        DataError: no such folder or split, or an image of the split without file.
    """
    keys = _read_split(folder, split)
    files = _index_images(folder / "JPEGImages")
    for key in keys:
        if key not in files:
            place = folder / "JPEGImages"
            _tell(
                DataError(f"{place} has no image for {key!r}", f"Add it, or take {key} out of split {split!r}"),
                problems,
            )
    there = [key for key in keys if key in files]
    return [ImageRef(key, files[key]) for key in (there if as_listed else sorted(there))]


def _tell(error: DataError, problems: list[DataError] | None) -> None:
    if problems is None:
        raise error
    problems.append(error)


def voc_splits(folder: Path) -> list[str]:
    """The splits that a folder has; lists of one class (`cat_train`, beside `train`) are none."""
    names = {path.stem for path in (folder / "ImageSets" / "Main").glob("*.txt")}
    return sorted(name for name in names if "_" not in name or name.rpartition("_")[2] not in names)


def listed_keys(folder: Path) -> set[str]:
    """The images that any split names."""
    return {key for split in voc_splits(folder) for key in _read_split(folder, split)}


def repeated_keys(folder: Path) -> list[tuple[str, str]]:
    """Split and image, where a split's list names it more than once: it is read once."""
    counts = {split: Counter(_listed(folder, split)) for split in voc_splits(folder)}
    return [(split, key) for split, keys in counts.items() for key, times in keys.items() if times > 1]


def _read_split(folder: Path, split: str) -> list[str]:
    return list(dict.fromkeys(_listed(folder, split)))


def _listed(folder: Path, split: str) -> list[str]:
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
    return keys


def _index_images(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"{folder} is not there", "VOC layout keeps its images in JPEGImages")
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_ENDINGS}


_Annotation = tuple[tuple[float, float] | None, tuple[LabelledObject, ...]]  # width and height, objects


def _read_annotations(
    folder: Path, keys: Sequence[str], problems: list[DataError] | None = None
) -> dict[str, _Annotation]:
    found = {path.stem: path for path in sorted(folder.glob("*.xml"))} if folder.is_dir() else {}
    for key in keys:
        if key not in found:
            error = DataError(
                f"{folder / (key + '.xml')} is missing: image {key!r} has no annotation",
                "Add the file (without objects if there are none), or take the image out of the split",
            )
            _tell(error, problems)
    annotations = {}
    for key, path in found.items():
        try:
            annotations[key] = read_annotation(path)
        except DataError as error:
            _tell(error, problems)
    return annotations


def read_annotation(path: Path) -> _Annotation:
    """Raises DataError where the file cannot be read."""
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
    return size if size and min(size) > 0 else None, objects


def _read_object(element: Element, path: Path) -> LabelledObject:
    name = (element.findtext("name") or "").strip()
    if not name:
        raise DataError(f"{path}: an object has no name", "Give every object a <name>")
    try:
        xmin, ymin, xmax, ymax = (float(element.findtext(f"bndbox/{tag}") or "") for tag in _CORNERS)
    except ValueError:
        raise DataError(f"{path}: {name} has no whole bndbox", f"Give it numbers for {', '.join(_CORNERS)}") from None
    if not sound(xmin, ymin, xmax, ymax):
        raise DataError(f"{path}: {name} has a corner that is not a finite number, or huge", "Correct its bndbox")
    difficult = (element.findtext("difficult") or "0").strip() == "1"
    # From 1 and inside the box, to 0 and around it.
    box = (xmin - 1, ymin - 1, xmax, ymax)
    return LabelledObject(name, box, f"{name} {xmin:g} {ymin:g} {xmax:g} {ymax:g}", difficult)


_CORNERS = ("xmin", "ymin", "xmax", "ymax")
