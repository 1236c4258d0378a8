"""The pictures that labels belong to: which file a written name means, and its size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

from frcnn_cli.core.decoding import read_record
from frcnn_cli.core.errors import DataError, ImageError
from frcnn_cli.core.find import images_below
from frcnn_cli.core.image import ImageRecord, ImageRef
from frcnn_cli.core.names import AmbiguousNameError, FileNames, clean, stem
from frcnn_cli.data.labels import counted
from frcnn_cli.system.prefetch import prefetch

_UNKNOWN_SIZE = 1 << 20  # larger than any image, so that its boxes are read


class Pictures:
    """The image files below a folder; their keys are their paths below it.

    Raises:
        DataError: it is not a folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder", "Name the folder of the images")
        self.folder = folder
        self.refs = {ref.key: ref for ref in images_below(folder)}
        self._names = FileNames(self.refs)

    def find(self, name: str, where: str) -> ImageRef | None:
        """The picture that a written name means, or None.

        Args:
            where: the place of the name, for messages.

        Raises:
            DataError: it could be several.
        """
        try:
            key = self._names.find(name)
        except AmbiguousNameError as error:
            raise DataError(f"{where}: {error}", "Write its path relative to the folder of images") from None
        return None if key is None else self.refs[key]

    @cached_property
    def records(self) -> Mapping[str, ImageRecord]:
        """The record of each picture, from its header, by key."""
        return {record.key: record for record in prefetch(_header, self.refs.values(), threads=4, ahead=16)}

    def is_readable(self, key: str) -> bool:
        """Whether the size of a picture is known."""
        return self.records[key].width != _UNKNOWN_SIZE

    def size(self, key: str) -> tuple[float, float]:
        """Width and height of a picture; huge if it cannot be read."""
        return float(self.records[key].width), float(self.records[key].height)


class Naming:
    """Finds the pictures of all entries of a file, and reports together which were not found.

    Raises:
        DataError: raised by `find` if two names mean the same picture.
    """

    def __init__(self, pictures: Pictures, source: Path) -> None:
        self.pictures, self.source = pictures, source
        self._absent: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._by_tail: list[str] = []

    def find(self, name: str, where: str) -> ImageRef | None:
        """The picture of an entry; None if there is none, which `check` reports."""
        ref = self.pictures.find(name, where)
        if ref is None:
            self._absent.setdefault(name, where)
        elif ref.key not in self._names:
            self._names[ref.key] = name
            if not clean(name).endswith((ref.key, stem(ref.key))):
                self._by_tail.append(f"{name!r} is {ref.key}")
        elif self._names[ref.key] != name:
            both = f"{self._names[ref.key]!r} and {name!r}"
            raise DataError(f"{where}: {both} both mean {ref.key}", "Use one name per image")
        return ref

    def check(self) -> None:
        """Raises DataError if entries name pictures that are not there."""
        if self._absent:
            name, where = next(iter(self._absent.items()))
            of = f"{len(self._absent)} of the {len(self._absent) + len(self._names)} images that {self.source} names"
            raise DataError(
                f"{of} are not in {self.pictures.folder}, e.g. {name[:200]!r} ({where})",
                "Add them, remove their labels, or name the folder of the images with --images",
            )

    def notes(self, unnamed: str, advice: str = "") -> list[str]:
        """Notes on the pictures that no entry names, and on those that were found by a part of their path."""
        without = counted(unnamed, self.pictures.refs.keys() - self._names.keys())
        by_tail = counted("{} picture(s) were found by a part of their path", self._by_tail)
        return [*(note + advice for note in without), *by_tail]


def _header(ref: ImageRef) -> ImageRecord:
    """The record of an image. One that cannot be read gets an unknown size; that matters only if a label names it."""
    try:
        return read_record(ref)
    except ImageError:
        return ImageRecord(ref.key, _UNKNOWN_SIZE, _UNKNOWN_SIZE, "")


def box_around(points: Iterable[tuple[float, float]]) -> tuple[float, float, float, float]:
    """The box around points. Raises ValueError if there are none."""
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)
