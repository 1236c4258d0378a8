"""The text that names a data set, and what it means. Light to import.

    voc:DIR            a folder in VOC layout, or one that holds a VOCdevkit
    voc                the same, found in $FRCNN_DATA or ./data; voc2007, voc2012: that year's
    coco:JSON:FOLDER   COCO's instances and the folder of their images; the file is the split
    labels:PATH        labels in any layout that is recognised (see `layouts`); labels:PATH:FOLDER states the folder of
                       their images
    A+B                both together; A@SPLIT: this split of it, regardless of --split

So `voc2007@trainval+voc2007@test+voc2012@trainval` is the union known as 07++12.

If no split is named, it is the split whose images are all in the given file of a stage. If there are several, it is the
one that contains all others, or else trainval, if that is one of them. Without such a file, or if it covers none, it is
trainval, or else the only split.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from frcnn_cli.core.errors import DataError

VOC_YEARS = ("VOC2007", "VOC2012")
_KIND = r"(?:(?:voc|voc2007|voc2012|coco)(?=[:@+]|$)|labels(?=:))"


@dataclass(frozen=True)
class Part:
    """One data set of a union. where: the text after the colon. split: the text after the @, if any."""

    kind: str
    where: str
    split: str | None

    @property
    def folder(self) -> Path:
        """The folder of a data set in VOC layout."""
        year = f"VOC{self.kind[3:]}" if self.kind != "voc" else ""
        if not self.where:
            return find_devkit(year)
        return _voc_folder(Path(self.where), year) or Path(self.where)

    @property
    def coco(self) -> tuple[Path, Path | None]:
        """The annotations of a COCO data set, and the folder of its images if it is named."""
        annotations, colon, folder = self.where.rpartition(":")
        if not colon and self.where.endswith(".json"):
            return Path(self.where), None
        if not colon or not annotations or not folder:
            raise DataError(f"coco:{self.where} does not name a data set", "Write coco:ANNOTATIONS.json:FOLDER")
        return Path(annotations), Path(folder)

    @property
    def labels(self) -> tuple[Path, Path | None]:
        """The labels of a data set in any layout, and the folder of its images if it is named."""
        if Path(self.where).exists() or ":" not in self.where:
            return Path(self.where), None
        path, _, folder = self.where.rpartition(":")
        return Path(path), Path(folder)


def is_dataset_spec(text: str) -> bool:
    """Whether `text` names a data set rather than a file or folder."""
    return re.match(_KIND, text) is not None


def names_its_splits(spec: str) -> bool:
    """Whether every part of the data set states its own split, so that --split has no effect."""
    return all(part.split or part.kind == "coco" for part in parts(spec))


def named(spec: str, split: str) -> str:
    """How messages name one split of a data set."""
    return spec if names_its_splits(spec) else f"{spec} {split}"


def parts(spec: str) -> list[Part]:
    """The data sets that `spec` names. A plus or an @ in a path belongs to it, unless a data set or a split follows."""
    return [_part(text) for text in _texts(spec)]


def _texts(spec: str) -> Iterator[str]:
    yield from re.split(rf"\+(?={_KIND})", spec)


def _part(text: str) -> Part:
    found = re.fullmatch(rf"({_KIND})(?::(.*?))?(?:@([^/@:]+))?", text, re.DOTALL)
    if found is None or (found[2] == "" and ":" in text):
        raise DataError(
            f"{text!r} does not name a data set",
            "Write voc, voc:DIR for a folder in VOC layout, coco:JSON:FOLDER, or labels:PATH for labels of other tools",
        )
    kind, where, split = found[1], found[2] or "", found[3]
    if split and where and Path(f"{where.rpartition(':')[2]}@{split}").exists():
        return Part(kind, f"{where}@{split}", None)
    return Part(kind, where, split)


def find_devkit(year: str = "") -> Path:
    """The folder of the VOC data set that `voc` means, or that of a year.

    Raises:
        DataError: there is none; the message lists every place that was searched.
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
