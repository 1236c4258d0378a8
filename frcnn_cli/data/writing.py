"""A labelled data set written in VOC or COCO layout, splits and all."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.boxes import to_inclusive
from frcnn_cli.data.dataset import Dataset, Sample
from frcnn_cli.data.find import IMAGE_ENDINGS
from frcnn_cli.errors import DataError, explain_os_error
from frcnn_cli.files import write_whole
from frcnn_cli.image import ImageRecord

_TAGS = ("xmin", "ymin", "xmax", "ymax")


def write_voc(datasets: Sequence[Dataset], sizes: dict[str, ImageRecord], folder: Path) -> None:
    """`JPEGImages`, `Annotations` and `ImageSets/Main/SPLIT.txt`.

    A key may hold no folder and no blank there: it becomes the file's name without its ending, folders joined by a
    dash, blanks by an underscore. Corners are whole where the boxes are. Crowds, which VOC does not know, are
    `difficult`.

    Raises:
        DataError: two images would share a name, or something that VOC cannot say: a box of a pixel or less, a class
            whose name is no line of text. FrcnnError: the folder cannot be written.
    """
    names = _names(_one_place_each(datasets))
    for dataset in datasets:
        _sayable(dataset)
    for dataset in datasets:
        for sample in dataset.samples:
            name = names[sample.ref.key]
            _copy(sample.ref.path, folder / "JPEGImages" / f"{name}{sample.ref.path.suffix.lower()}")
            xml = _xml(name, sample, dataset.classes, sizes[sample.ref.key])
            write_whole(folder / "Annotations" / f"{name}.xml", xml.encode())
        keys = "".join(f"{names[sample.ref.key]}\n" for sample in dataset.samples)
        write_whole(folder / "ImageSets" / "Main" / f"{dataset.split}.txt", keys.encode())


def write_coco(datasets: Sequence[Dataset], sizes: dict[str, ImageRecord], folder: Path) -> None:
    """`images/` and `annotations/instances_SPLIT.json`. Classes count from 1; COCO's own numbers are kept.

    Raises:
        DataError: two images would share a name. FrcnnError: the folder cannot be written.
    """
    _one_place_each(datasets)
    for dataset in datasets:
        for sample in dataset.samples:
            _copy(sample.ref.path, folder / "images" / _file_name(sample))
        content = json.dumps(_instances(dataset, sizes)).encode()
        write_whole(folder / "annotations" / f"instances_{dataset.split}.json", content)


WRITERS = {"voc": write_voc, "coco": write_coco}


def _instances(dataset: Dataset, sizes: dict[str, ImageRecord]) -> dict[str, list[dict[str, Any]]]:
    numbers = {key: number for number, key in dataset.image_ids.items()}
    categories = {name: number for number, name in dataset.categories.items()}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for at, sample in enumerate(dataset.samples, 1):
        number, record = numbers.get(sample.ref.key, at), sizes[sample.ref.key]
        images.append({"id": number, "file_name": _file_name(sample), "width": record.width, "height": record.height})
        truth = sample.truth
        for i, (x1, y1, x2, y2) in enumerate(truth.boxes.tolist()):
            name = dataset.classes[truth.labels[i]]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": categories.get(name, int(truth.labels[i]) + 1),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": float(truth.areas[i]),
                    "iscrowd": int(truth.crowd[i]),
                    "ignore": int(truth.difficult[i]),
                }
            )
    listed = [{"id": categories.get(name, i), "name": name} for i, name in enumerate(dataset.classes, 1)]
    return {"images": images, "annotations": annotations, "categories": listed}


def _file_name(sample: Sample) -> str:
    """The key, which VOC's images have without an ending."""
    ending = sample.ref.path.suffix.lower()
    return sample.ref.key if sample.ref.key.lower().endswith(ending) else sample.ref.key + ending


def _xml(name: str, sample: Sample, classes: Sequence[str], record: ImageRecord) -> str:
    truth = sample.truth
    objects = "".join(
        f"  <object>\n    <name>{escape(classes[label])}</name>\n    <difficult>{int(difficult)}</difficult>\n"
        "    <bndbox>"
        + "".join(f"<{tag}>{v:.10g}</{tag}>" for tag, v in zip(_TAGS, corners, strict=True))
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


def _one_place_each(datasets: Sequence[Dataset]) -> list[str]:
    """The keys of all images, none of which stands for two files: splits may share images, not names."""
    places: dict[str, Path] = {}
    for dataset in datasets:
        for sample in dataset.samples:
            path = sample.ref.path.resolve()
            if places.setdefault(sample.ref.key, path) != path:
                both = f"{places[sample.ref.key]} and {path}"
                raise DataError(f"two images are called {sample.ref.key!r} ({both})", "Rename one of them")
    return list(places)


def _sayable(dataset: Dataset) -> None:
    """Raises DataError where VOC's annotations have no words for what is there."""
    for name in dataset.classes:
        if not name.strip() or not name.isprintable():
            raise DataError(f"{name!r} cannot be the name of a class in VOC layout", "Rename it, or write --to coco")
    for sample in dataset.samples:
        for at in _slivers(sample).nonzero()[0]:
            box = " ".join(f"{v:g}" for v in sample.truth.boxes[at])
            raise DataError(
                f"{sample.ref.key}: the box {box} is a pixel wide or less, which has no area in VOC's whole pixels",
                "Leave such boxes out with --bad-boxes fix, or write --to coco",
            )


def without_slivers(dataset: Dataset) -> Dataset:
    """Without the boxes that VOC's whole pixels give no area; the data set's `notes` say how many they were."""
    samples = tuple(replace(sample, truth=sample.truth.where(~_slivers(sample))) for sample in dataset.samples)
    lost = sum(len(sample.truth) for sample in dataset.samples) - sum(len(sample.truth) for sample in samples)
    notes = (f"left out {lost} box(es) of {dataset.split} that are a pixel wide or less",) if lost else ()
    return replace(dataset, samples=samples, notes=(*dataset.notes, *notes))


def _slivers(sample: Sample) -> NDArray[np.bool_]:
    sides = sample.truth.boxes[:, 2:] - sample.truth.boxes[:, :2]
    slivers: NDArray[np.bool_] = sides.min(axis=1, initial=np.inf) <= 1
    return slivers


def _names(keys: Sequence[str]) -> dict[str, str]:
    names = {key: (key[: -len(Path(key).suffix)] if Path(key).suffix.lower() in IMAGE_ENDINGS else key) for key in keys}
    names = {key: re.sub(r"\s+", "_", name.replace("/", "-")) for key, name in names.items()}
    owners: dict[str, str] = {}
    for key, name in names.items():
        if owners.setdefault(name, key) != key:
            raise DataError(f"{owners[name]!r} and {key!r} would both become {name!r}", "Rename one of them")
    return names


def _copy(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    except OSError as error:
        raise explain_os_error(error, target) from None
