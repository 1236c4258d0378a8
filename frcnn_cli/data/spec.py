"""From what a user types for a data set to the data set.

    voc:DIR            a folder in VOC layout, or one that holds a VOCdevkit
    voc                the same, found in $FRCNN_DATA or ./data; voc2007, voc2012: that year's
    coco:JSON:FOLDER   COCO's instances and the folder of their images; the file is the split
    A+B                both together; A@SPLIT: this split of it, whatever --split says

So `voc2007@trainval+voc2007@test+voc2012@trainval` is what the field calls 07++12.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from frcnn_cli.data.coco import read_coco_labels
from frcnn_cli.data.dataset import Dataset, union
from frcnn_cli.data.labels import BadBoxes, Labels
from frcnn_cli.data.voc import read_voc_images, read_voc_labels, voc_splits
from frcnn_cli.errors import DataError
from frcnn_cli.image import ImageRef

VOC_YEARS = ("VOC2007", "VOC2012")
_KIND = r"(?:voc|voc2007|voc2012|coco)(?=[:@+]|$)"


@dataclass(frozen=True)
class Part:
    """One data set of a union. where: after the colon. split: after the @, if it is told."""

    kind: str
    where: str
    split: str | None

    @property
    def folder(self) -> Path:
        """Of a data set in VOC layout."""
        year = f"VOC{self.kind[3:]}" if self.kind != "voc" else ""
        if not self.where:
            return find_devkit(year)
        return _voc_folder(Path(self.where), year) or Path(self.where)

    @property
    def coco(self) -> tuple[Path, Path]:
        """Annotations, and the folder of images."""
        annotations, colon, folder = self.where.rpartition(":")
        if not colon or not annotations or not folder:
            raise DataError(f"coco:{self.where} does not name a data set", "Write coco:ANNOTATIONS.json:FOLDER")
        return Path(annotations), Path(folder)


def is_dataset_spec(text: str) -> bool:
    """Whether `text` names a data set rather than a file or folder."""
    return re.match(_KIND, text) is not None


def load_dataset(spec: str, split: str, bad_boxes: BadBoxes = "error") -> Dataset:
    """Reads the data set that `spec` names (see the module).

    Raises:
        DataError: an unknown kind of data set, or none found.
    """
    return union([labels.dataset(bad_boxes) for labels in load_labels(spec, split)])


def load_labels(spec: str, split: str) -> list[Labels]:
    """The same, as it is annotated: each part of the union."""
    return [
        read_coco_labels(*part.coco) if part.kind == "coco" else read_voc_labels(part.folder, part.split or split)
        for part in parts(spec)
    ]


def load_image_refs(spec: str, split: str, as_listed: bool = False) -> list[ImageRef]:
    """The images of a data set alone, sorted by key or in the order of its own list; annotations in VOC layout are not
    read."""
    refs: list[ImageRef] = []
    for part in parts(spec):
        if part.kind == "coco":
            refs += [image.ref for image in read_coco_labels(*part.coco).images]
        else:
            refs += read_voc_images(part.folder, part.split or split, as_listed)
    return refs if as_listed else sorted(refs)


def splits_of(spec: str) -> list[str]:
    """The splits of the data set that `spec` names: of COCO's, the one that the file is."""
    found: dict[str, None] = {}
    for part in parts(spec):
        if part.split:
            found[part.split] = None
        elif part.kind == "coco":
            found[read_coco_labels(*part.coco).split] = None
        else:
            found |= dict.fromkeys(voc_splits(part.folder))
    return list(found)


def names_its_splits(spec: str) -> bool:
    """Whether every part of the data set is of one split, told by itself: no other choice says anything."""
    return all(part.split or part.kind == "coco" for part in parts(spec))


def named(spec: str, split: str) -> str:
    """What one split of a data set is called."""
    return spec if names_its_splits(spec) else f"{spec} {split}"


def read_splits(spec: str) -> tuple[list[Labels], list[Path], list[DataError]]:
    """All splits as they are annotated, the folders in VOC layout, and what is wrong with images that were left out."""
    found: list[Labels] = []
    folders: list[Path] = []
    problems: list[DataError] = []
    for part in parts(spec):
        if part.kind == "coco":
            found.append(read_coco_labels(*part.coco))
            continue
        if not part.folder.is_dir():
            raise DataError(f"{part.folder} is not a folder", "Name a folder in VOC layout")
        folders.append(part.folder)
        names = [part.split] if part.split else voc_splits(part.folder)
        found += [read_voc_labels(part.folder, name, problems) for name in names]
    return found, folders, problems


def parts(spec: str) -> list[Part]:
    """The data sets that `spec` names. A plus or an @ in a path is part of it, unless a data set or a split follows."""
    return [_part(text) for text in _texts(spec)]


def _texts(spec: str) -> Iterator[str]:
    yield from re.split(rf"\+(?={_KIND})", spec)


def _part(text: str) -> Part:
    found = re.fullmatch(rf"({_KIND})(?::(.*?))?(?:@([\w-]+))?", text, re.DOTALL)
    if found is None or (found[2] == "" and ":" in text):
        raise DataError(
            f"{text!r} does not name a data set", "Write voc, voc:DIR for a folder in VOC layout, or coco:JSON:FOLDER"
        )
    kind, where, split = found[1], found[2] or "", found[3]
    if split and where and Path(f"{where}@{split}").exists():
        return Part(kind, f"{where}@{split}", None)
    return Part(kind, where, split)


def find_devkit(year: str = "") -> Path:
    """The VOC folder that `voc` alone means, or that of a year.

    Raises:
        DataError: none is there; the message lists every place that was looked in.
    """
    roots = [Path(os.environ["FRCNN_DATA"])] if os.environ.get("FRCNN_DATA") else []
    roots.append(Path("data"))
    for root in roots:
        folder = _voc_folder(root, year)
        if folder is not None:
            return folder
    places = ", ".join(str(place) for root in roots for place in (root, root / "VOCdevkit"))
    raise DataError(
        f"no VOC data set found; looked in {places} for {year or 'Annotations or ' + ' or '.join(VOC_YEARS)}",
        "Set FRCNN_DATA to the folder that holds VOCdevkit, or write --data voc:DIR",
    )


def _voc_folder(root: Path, year: str = "") -> Path | None:
    for base in (root, root / "VOCdevkit"):
        years = (base / name for name in ([year] if year else VOC_YEARS))
        for folder in (*years,) if year else (base, *years):
            if (folder / "Annotations").is_dir():
                return folder
    return None
