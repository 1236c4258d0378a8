"""Where a folder in VOC layout keeps its pictures, annotations and lists.

The devkit's tree is `Annotations/KEY.xml`, `JPEGImages/KEY.jpg` and `ImageSets/Main/SPLIT.txt`. Other tools write the
same XML into other trees: pictures in `images/`, no lists, XML beside the pictures, or a folder per split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

from frcnn_cli.core.decoding import IMAGE_ENDINGS
from frcnn_cli.core.errors import DataError, listed
from frcnn_cli.core.files import files_below, files_in
from frcnn_cli.core.names import stem
from frcnn_cli.core.splits import DEFAULT_SPLIT, SPLIT_FOLDERS
from frcnn_cli.data.labels import counted
from frcnn_cli.system.untrusted import read_text

MAX_LIST_BYTES = 1 << 28
_PICTURE_FOLDERS = ("JPEGImages", "images", "Images", "imgs", "img")
_ANNOTATION_FOLDERS = ("Annotations", "annotations", "xml", "xmls", "labels")


class VocTree:
    """The files of a folder with VOC's XML.

    Args:
        folder: that of the devkit, or any folder with XML and pictures.
        images: the folder of the pictures, if they are not below `folder`.

    Raises:
        DataError: it is not a folder.
    """

    def __init__(self, folder: Path, images: Path | None = None) -> None:
        if not folder.is_dir():
            fix = "Name a folder in VOC layout (JPEGImages, Annotations, ImageSets)"
            raise DataError(f"{folder} is not a folder", fix)
        self.folder, self._images = folder, images
        self.lists = folder / "ImageSets" / "Main"
        self.listed = bool(files_in(self.lists, ".txt"))

    @cached_property
    def splits(self) -> list[str]:
        """The splits; lists of single classes (`cat_train`, beside `train`) are not splits."""
        if not self.listed:
            return sorted(self._annotations_by_split)
        names = {path.stem for path in files_in(self.lists, ".txt")}
        return sorted(name for name in names if "_" not in name or name.rpartition("_")[2] not in names)

    @property
    def layout(self) -> str:
        """The tree, as text for the user."""
        return "VOC XML" if self.listed else "VOC XML without lists of splits"

    def pictures(self, split: str) -> dict[str, Path]:
        """The picture of each key: of this split if the tree has no lists, otherwise of all."""
        return {key: files[0] for key, files in self._pictures(split).items()}

    def same_key(self, split: str) -> dict[str, list[Path]]:
        """Keys that several pictures share, as `a.jpg` and `a.png` do."""
        return {key: files for key, files in self._pictures(split).items() if len(files) > 1}

    def annotations(self, split: str) -> dict[str, Path]:
        """The annotation of each key: of this split if the tree has no lists, otherwise of all."""
        return {key: files[0] for key, files in self._annotations(split).items()}

    def same_annotation(self, split: str) -> dict[str, list[Path]]:
        """Keys with several annotations, in different folders."""
        return {key: files for key, files in self._annotations(split).items() if len(files) > 1}

    def _annotations(self, split: str) -> dict[str, list[Path]]:
        return self._annotations_by_split.get("" if self.listed else split, {})

    @cached_property
    def every_annotation(self) -> list[Path]:
        """The annotations of all splits."""
        if not self.listed:
            return files_below(self.folder, ".xml")
        folder = self._first(_ANNOTATION_FOLDERS)
        return files_in(folder, ".xml") if folder else []

    @cached_property
    def _annotations_by_split(self) -> dict[str, dict[str, list[Path]]]:
        found: dict[str, list[Path]] = {}
        for path in self.every_annotation:
            found.setdefault("" if self.listed else _split_of(path.relative_to(self.folder)), []).append(path)
        return {split: _by_stem(paths) for split, paths in found.items()}

    def keys(self, split: str) -> list[str]:
        """The keys of a split, each once, in the order of its list.

        Raises:
            DataError: there is no such split, or its list cannot be read or is empty.
        """
        return list(dict.fromkeys(self._lines(split)))

    def repeated(self) -> list[tuple[str, str]]:
        """Split and key, for every key that a list names more than once."""
        if not self.listed:
            return []
        counts = {split: Counter(self._lines(split)) for split in self.splits}
        return [(split, key) for split, keys in counts.items() for key, times in keys.items() if times > 1]

    def notes(self, split: str) -> list[str]:
        """Files that belong to nothing. With lists, they may have been excluded on purpose."""
        if self.listed:
            return []
        pictures, annotations = self.pictures(split), self.annotations(split)
        lone = [str(annotations[key].relative_to(self.folder)) for key in annotations.keys() - pictures]
        bare = [pictures[key].name for key in pictures.keys() - annotations]
        return [
            *counted("{} annotation(s) belong to no picture", lone),
            *counted("{} picture(s) have no annotation and are skipped", bare),
        ]

    @cached_property
    def picture_folder(self) -> Path:
        """The folder of the pictures of a tree with lists."""
        return self._images or self._first(_PICTURE_FOLDERS) or self.folder / "JPEGImages"

    def _first(self, names: Iterable[str]) -> Path | None:
        return next((self.folder / name for name in names if (self.folder / name).is_dir()), None)

    def _pictures(self, split: str) -> Mapping[str, list[Path]]:
        return self._all_pictures if self.listed else self._pictures_by_split.get(split, {})

    @cached_property
    def _all_pictures(self) -> dict[str, list[Path]]:
        if not self.picture_folder.is_dir():
            raise DataError(f"{self.picture_folder} does not exist", "VOC layout keeps its images in JPEGImages")
        return _by_stem(files_in(self.picture_folder, *IMAGE_ENDINGS))

    @cached_property
    def _pictures_by_split(self) -> dict[str, dict[str, list[Path]]]:
        found: dict[str, list[Path]] = {}
        folder = self._images or self.folder
        for path in files_below(folder, *IMAGE_ENDINGS):
            found.setdefault(_split_of(path.relative_to(folder)), []).append(path)
        return {split: _by_stem(paths) for split, paths in found.items()}

    def _lines(self, split: str) -> list[str]:
        if not self.listed:
            found = self.annotations(split)
            if not found:
                raise DataError(f"{self.folder} has no split {split!r}", f"It has: {listed(self.splits) or 'none'}")
            pictures = self.pictures(split)
            return [key for key in found if key in pictures] or list(found)
        path = self.lists / f"{split}.txt"
        if not path.is_file():
            have = self.splits
            known = (
                f"It has: {listed(have)}"
                if have
                else f"Write the names of its images, without endings, one per line, to {path}"
            )
            raise DataError(f"{self.folder} has no split {split!r}", known)
        known_keys = self.annotations(split).keys() | self._known_pictures()
        text = read_text(path, MAX_LIST_BYTES, DataError)
        keys = [_key(line.strip(), known_keys) for line in text.splitlines() if line.strip()]
        if not keys:
            raise DataError(f"{path} lists no images", "Write one name of an image per line, without its ending")
        return keys

    def _known_pictures(self) -> set[str]:
        return set(self._all_pictures) if self.picture_folder.is_dir() else set()


def _key(line: str, known: Iterable[str]) -> str:
    """The key that a line names: the whole line, which may hold blanks; or without the flag of a list of one class
    (`000005 -1`), or without an ending or folders."""
    words = line.rsplit(maxsplit=1)
    name = words[0] if len(words) == 2 and words[1] in ("-1", "0", "1") else line
    return next((one for one in (line, name, stem(name), stem(Path(name).name)) if one in known), name)


def _by_stem(paths: Iterable[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in paths:
        found.setdefault(path.stem, []).append(path)
    return found


def _split_of(path: Path) -> str:
    """The split that a folder on the way to a file names."""
    return next((part for part in path.parts[:-1] if part.lower() in SPLIT_FOLDERS), DEFAULT_SPLIT)
