"""PASCAL VOC's XML, one file per image, in any of the trees of `voc_tree`.

Corners in the XML are 1-based and inside the box; they become `(xmin-1, ymin-1, xmax, ymax)` (see `core.boxes`). The
classes are the names in all annotations of the folder, sorted, so that labels are the same in every split.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.boxes import to_inclusive
from frcnn_cli.core.errors import DataError
from frcnn_cli.core.files import check_regular, write_atomic
from frcnn_cli.core.image import ImageRecord, ImageRef
from frcnn_cli.data.dataset import Dataset, Sample
from frcnn_cli.data.formats.images import copy_image, file_names
from frcnn_cli.data.formats.voc_tree import VocTree
from frcnn_cli.data.labels import BadBoxes, LabelledImage, LabelledObject, Labels, plausible

MAX_XML_BYTES = 16_000_000
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_FLAGS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "unspecified": False}


class _Annotation(NamedTuple):
    size: tuple[float, float] | None  # width and height
    objects: tuple[LabelledObject, ...]
    file_name: str


# Reading.


def read_voc(folder: Path, split: str, bad_boxes: BadBoxes = "error") -> Dataset:
    """Reads one split of a folder in VOC layout; see `read_voc_labels` and `Labels.dataset`."""
    return read_voc_labels(folder, split).dataset(bad_boxes)


def read_voc_labels(
    folder: Path, split: str, problems: list[DataError] | None = None, images: Path | None = None
) -> Labels:
    """One split as it is annotated.

    Args:
        images: the folder of the pictures, if they are not below `folder`.
        problems: receives the errors of single images, which are then skipped; by default they are raised.

    Raises:
        DataError: no such folder or split, an image of the split without file or annotation, XML that cannot be read.
    """
    tree = VocTree(folder, images)
    refs = _images(tree, split, as_listed=True, problems=problems)
    paths = tree.annotations(split)
    for ref in refs:
        if ref.key not in paths:
            error = DataError(
                f"{folder / 'Annotations' / (ref.key + '.xml')} is missing: image {ref.key!r} has no annotation",
                "Add the file (without objects if there are none), or remove the image from the split",
            )
            _report(error, problems)
    annotations: dict[Path, _Annotation] = {}
    for key, files in tree.same_annotation(split).items():
        both = " and ".join(map(str, files[:2]))
        _report(DataError(f"image {key!r} has {len(files)} annotations: {both}", "Remove all but one"), problems)
    for path in tree.every_annotation:
        try:
            annotations[path] = read_annotation(path)
        except DataError as error:
            _report(error, problems)
    labelled = tuple(
        LabelledImage(ref, paths[ref.key], one.size, one.objects, min_side=1.0, file_name=one.file_name)
        for ref in refs
        if (one := annotations.get(paths.get(ref.key, Path()))) is not None
    )
    classes = tuple(sorted({obj.name for one in annotations.values() for obj in one.objects}))
    return Labels(folder.name, split, classes, labelled, layout=tree.layout, notes=tuple(tree.notes(split)))


def read_voc_images(folder: Path, split: str, as_listed: bool = False) -> list[ImageRef]:
    """The images of one split, sorted by key or in the order of the list; annotations are not read.

    Raises:
        DataError: no such folder or split, or an image of the split without file.
    """
    return _images(VocTree(folder), split, as_listed)


def voc_splits(folder: Path) -> list[str]:
    """The splits of a folder."""
    return VocTree(folder).splits if folder.is_dir() else []


def _images(
    tree: VocTree, split: str, as_listed: bool = False, problems: list[DataError] | None = None
) -> list[ImageRef]:
    keys = tree.keys(split)
    files, doubles = tree.pictures(split), tree.same_key(split)
    for key in keys:
        if key not in files:
            missing = f"{tree.picture_folder} has no image for {key!r}"
            _report(DataError(missing, f"Add it, or remove {key} from split {split!r}"), problems)
        elif key in doubles:
            both = " and ".join(str(path) for path in doubles[key][:2])
            what = f"{len(doubles[key])} pictures share the name {key!r}: {both}"
            _report(DataError(what, "Rename or remove all but one: the annotation belongs to one of them"), problems)
    present = [key for key in keys if key in files and key not in doubles]
    return [ImageRef(key, files[key]) for key in (present if as_listed else sorted(present))]


def read_annotation(path: Path) -> _Annotation:
    """The image size and the objects of an annotation. Raises DataError if the file cannot be read."""
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import parse

    try:
        if check_regular(path, DataError).stat().st_size > MAX_XML_BYTES:
            raise DataError(f"{path} is larger than any annotation", "Check the file")
        root: Element = parse(path, forbid_dtd=True).getroot()
    except (ParseError, DefusedXmlException, OSError, ValueError, LookupError) as error:
        raise DataError(f"{path} is not XML that can be read ({error})", "Write the annotation again") from None
    for element in root.iter():  # the names as they are, without a namespace
        element.tag = str(element.tag).rpartition("}")[2]
    objects = tuple(_read_object(element, path) for element in root.iter("object"))
    width, height = root.findtext("size/width"), root.findtext("size/height")
    try:
        size = (float(width), float(height)) if width and height else None
    except ValueError:
        size = None
    if size is not None and not (min(size) > 0 and plausible(*size)):
        size = None
    name = (root.findtext("filename") or "").strip()
    return _Annotation(size, objects, name)


def _report(error: DataError, problems: list[DataError] | None) -> None:
    if problems is None:
        raise error
    problems.append(error)


def _read_object(element: Element, path: Path) -> LabelledObject:
    name = (element.findtext("name") or "").strip()
    if not name:
        raise DataError(f"{path}: an object has no name", "Give every object a <name>")
    try:
        xmin, ymin, xmax, ymax = (float(element.findtext(f"bndbox/{tag}") or "") for tag in _CORNERS)
    except ValueError:
        raise DataError(
            f"{path}: {name} has no complete bndbox", f"Give it numbers for {', '.join(_CORNERS)}"
        ) from None
    if not plausible(xmin, ymin, xmax, ymax):
        raise DataError(f"{path}: {name} has a coordinate that is not finite or is far too large", "Correct its bndbox")
    difficult = _flag(element, "difficult", f"{path}: {name}")
    box = (xmin - 1, ymin - 1, xmax, ymax)  # from 1-based and inside the box to continuous
    return LabelledObject(name, box, f"{name} {xmin:g} {ymin:g} {xmax:g} {ymax:g}", difficult)


def _flag(element: Element, tag: str, where: str) -> bool:
    text = (element.findtext(tag) or "0").strip().lower()
    if text not in _FLAGS:
        raise DataError(f"{where} has the value {text!r} for {tag}", "Write 0 or 1")
    return _FLAGS[text]


# Writing.


def write_voc(datasets: Sequence[Dataset], sizes: Mapping[str, ImageRecord], folder: Path) -> None:
    """Writes `JPEGImages`, `Annotations` and `ImageSets/Main/SPLIT.txt`.

    File names in VOC layout contain no folders and no blanks: in the key, slashes become dashes and blanks become
    underscores, and the ending is dropped. Corners are whole numbers if the boxes are. Crowds, which VOC does not
    know, become `difficult`.

    Args:
        sizes: the record of each image, by key.

    Raises:
        DataError: two images would get the same name, a box is at most one pixel wide, or the name of a class is not
            a line of text. FrcnnError: the system refuses to write.
    """
    names = _file_names(file_names(datasets))
    for dataset in datasets:
        _check_representable(dataset)
    for dataset in datasets:
        for sample in dataset.samples:
            name = names[sample.ref.key]
            copy_image(sample.ref.path, folder / "JPEGImages" / f"{name}{sample.ref.path.suffix.lower()}")
            xml = _xml(name, sample, dataset.classes, sizes[sample.ref.key])
            write_atomic(folder / "Annotations" / f"{name}.xml", xml.encode())
        keys = "".join(f"{names[sample.ref.key]}\n" for sample in dataset.samples)
        write_atomic(folder / "ImageSets" / "Main" / f"{dataset.split}.txt", keys.encode())


def without_slivers(dataset: Dataset) -> Dataset:
    """Without boxes that have no area in VOC's whole pixels; the `notes` of the data set state how many."""
    samples = tuple(replace(sample, truth=sample.truth.where(~_slivers(sample))) for sample in dataset.samples)
    dropped = sum(len(sample.truth) for sample in dataset.samples) - sum(len(sample.truth) for sample in samples)
    notes = (f"dropped {dropped} box(es) of {dataset.split} that are at most one pixel wide",) if dropped else ()
    return replace(dataset, samples=samples, notes=(*dataset.notes, *notes))


def _xml(name: str, sample: Sample, classes: Sequence[str], record: ImageRecord) -> str:
    truth = sample.truth
    objects = "".join(
        f"  <object>\n    <name>{escape(classes[label])}</name>\n    <difficult>{int(difficult)}</difficult>\n"
        "    <bndbox>"
        + "".join(f"<{tag}>{v:.10g}</{tag}>" for tag, v in zip(_CORNERS, corners, strict=True))
        + "</bndbox>\n"
        "  </object>\n"
        for corners, label, difficult in zip(
            to_inclusive(truth.boxes, base=1).tolist(), truth.labels, truth.difficult, strict=True
        )
    )
    return (
        f"<annotation>\n  <filename>{escape(name + sample.ref.path.suffix.lower())}</filename>\n"
        f"  <size><width>{record.width}</width><height>{record.height}</height><depth>3</depth></size>\n"
        f"{objects}</annotation>\n"
    )


def _check_representable(dataset: Dataset) -> None:
    """Raises DataError for a class name or a box that VOC's annotations cannot express."""
    for name in dataset.classes:
        if not name.strip() or not name.isprintable():
            raise DataError(f"{name!r} cannot be the name of a class in VOC layout", "Rename it, or write --to coco")
    for sample in dataset.samples:
        for at in _slivers(sample).nonzero()[0]:
            box = " ".join(f"{v:g}" for v in sample.truth.boxes[at])
            raise DataError(
                f"{sample.ref.key}: the box {box} is at most one pixel wide or high, which VOC's whole-pixel corners"
                " cannot express",
                "Drop such boxes with --bad-boxes fix, or write --to coco",
            )


def _slivers(sample: Sample) -> NDArray[np.bool_]:
    sides = sample.truth.boxes[:, 2:] - sample.truth.boxes[:, :2]
    slivers: NDArray[np.bool_] = sides.min(axis=1, initial=np.inf) <= 1
    return slivers


def _file_names(paths: Mapping[str, str]) -> dict[str, str]:
    """The name in VOC layout of each image, by key. paths: of each image, by key."""
    names = {key: re.sub(r"\s+", "_", str(Path(path).with_suffix("")).replace("/", "-")) for key, path in paths.items()}
    owners: dict[str, str] = {}
    for key, name in names.items():
        if owners.setdefault(name, key) != key:
            raise DataError(f"{owners[name]!r} and {key!r} would both become {name!r}", "Rename one of them")
    return names
