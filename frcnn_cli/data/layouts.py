"""Labels of other tools: which layout a path is in, and reading it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from frcnn_cli.core.decoding import IMAGE_ENDINGS
from frcnn_cli.core.errors import DataError, FrcnnError
from frcnn_cli.core.files import files_below, files_in
from frcnn_cli.core.splits import DEFAULT_SPLIT
from frcnn_cli.data.formats.coco import ROBOFLOW, is_coco, read_coco_labels
from frcnn_cli.data.formats.csv import read_csv_labels
from frcnn_cli.data.formats.label_studio import is_label_studio, read_label_studio_labels
from frcnn_cli.data.formats.labelme import is_labelme, read_labelme_labels
from frcnn_cli.data.formats.pictures import Pictures
from frcnn_cli.data.formats.splits import folder_split
from frcnn_cli.data.formats.supervisely import is_supervisely, read_supervisely_labels
from frcnn_cli.data.formats.via import is_via, is_via_table, read_via_labels
from frcnn_cli.data.formats.voc import read_voc_labels
from frcnn_cli.data.formats.voc_tree import VocTree
from frcnn_cli.data.formats.yolo import read_yolo_labels
from frcnn_cli.data.formats.yolo_config import yolo_root
from frcnn_cli.data.labels import Labels, Problems
from frcnn_cli.system.tables import open_table
from frcnn_cli.system.untrusted import read_json, read_text

_MAX_BYTES = 2 << 30
_TABLES = (".csv", ".tsv")
_KNOWN = (
    "frcnn reads VOC XML, COCO, YOLO, tables (.csv), labelme, the VGG Image Annotator, Label Studio and Supervisely"
)

_Read = Callable[[], list[Labels]]


class Found(NamedTuple):
    """A layout that was recognised. name: as text for the user. read: reads all splits."""

    name: str
    read: _Read


def read_layout(
    path: Path,
    images: Path | None = None,
    stated: Mapping[str, Any] | None = None,
    problems: Problems | None = None,
) -> list[Labels]:
    """The labels at a path, one `Labels` per split; their `layout` states what was recognised.

    Args:
        path: a folder, or a file of labels.
        images: the folder of the images, if it is not the folder of the labels.
        stated: what is known about the numbers in a table; see `read_csv_labels`.
        problems: receives the errors of single images and objects, which are then skipped; by default they are raised.

    Raises:
        DataError: no layout is recognised, or the labels cannot be read.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist", "Name a file or a folder of labels, or a data set (voc:DIR)")
    if images is not None and not images.is_dir():
        raise DataError(f"{images} is not a folder", "Name the folder of the images")
    found = list(
        _in_folder(path, images, stated, problems) if path.is_dir() else _in_file(path, images, stated, problems)
    )
    if not found:
        raise DataError(f"{path} holds no labels that are recognised", _KNOWN)
    labels = found[0].read()
    others = list(dict.fromkeys(other.name for other in found[1:] if other.name != found[0].name))
    if others:
        note = f"{path} also holds {' and '.join(others)}, which is not read"
        labels = [replace(one, notes=(*one.notes, note)) for one in labels]
    return labels


def _in_file(
    path: Path, images: Path | None, stated: Mapping[str, Any] | None, problems: Problems | None
) -> Iterator[Found]:
    ending = path.suffix.lower()
    if ending in (".yaml", ".yml", ".data"):
        yield Found("YOLO", lambda: read_yolo_labels(path, Pictures(images or yolo_root(path)), problems))
    elif ending in _TABLES:
        folder = images or _beside(path)
        with open_table(path, DataError) as table:
            via = is_via_table(table.header)
        if via:
            yield Found("VGG Image Annotator", lambda: read_via_labels(path, Pictures(folder), problems))
        else:
            yield Found("a table", lambda: read_csv_labels(path, Pictures(folder), stated, problems))
    elif ending == ".json":
        content = read_json(path, _MAX_BYTES, DataError, _KNOWN)
        folder = images or _beside(path)
        if is_coco(content):
            yield Found("COCO", lambda: [read_coco_labels(path, folder, problems)])
        elif is_label_studio(content):
            yield Found("Label Studio", lambda: read_label_studio_labels(path, Pictures(folder), problems))
        elif is_via(content):
            yield Found("VGG Image Annotator", lambda: read_via_labels(path, Pictures(folder), problems))


def _in_folder(
    path: Path, images: Path | None, stated: Mapping[str, Any] | None, problems: Problems | None
) -> Iterator[Found]:
    """The layouts of a folder, the likeliest first."""
    pictures = images or path
    if is_supervisely(path):
        if images is not None:
            raise DataError(f"{path} is a project of Supervisely, which holds its images", "Remove --images")
        yield Found("Supervisely", lambda: read_supervisely_labels(path, Pictures(path), problems))
        return
    roboflow = files_below(path, ".json")
    roboflow = [file for file in roboflow if file.stem == ROBOFLOW]
    if roboflow:
        yield Found("COCO", lambda: [read_coco_labels(file, file.parent, problems) for file in roboflow])
    if next(iter(files_below(path, ".xml")), None) is not None:
        yield Found("VOC XML", lambda: _voc(path, images, problems))
    if _is_yolo(path):
        yield Found("YOLO", lambda: read_yolo_labels(path, Pictures(pictures), problems))
    documents = [file for file in files_below(path, ".json") if file.stem != ROBOFLOW]
    kinds = {file: _kind_of_json(file) for file in documents}
    coco = [file for file, kind in kinds.items() if kind == "COCO"]
    if coco:
        yield Found("COCO", lambda: [read_coco_labels(file, images or _beside(file), problems) for file in coco])
    if "labelme" in kinds.values():
        yield Found("labelme", lambda: read_labelme_labels(path, Pictures(pictures), problems))
    for kind, read in (("Label Studio", read_label_studio_labels), ("VGG Image Annotator", read_via_labels)):
        files = [file for file, other in kinds.items() if other == kind]
        if files:
            yield Found(kind, partial(_each, read, files, path, images, problems))
    tables = [file for file in files_below(path, *_TABLES) if not file.name.startswith(("class-desc", "oidv"))]
    if tables:
        yield Found("a table", lambda: _tables(tables, images, stated, problems))


def _each(
    read: Callable[[Path, Pictures, Problems | None], list[Labels]],
    files: list[Path],
    folder: Path,
    images: Path | None,
    problems: Problems | None,
) -> list[Labels]:
    """The labels of the files of one kind in a folder. Several files have their pictures beside them, and are of the
    splits that their folders name."""
    if len(files) == 1:
        return read(files[0], Pictures(images or folder), problems)
    found = []
    for file in files:
        beside = file.parent if files_in(file.parent, *IMAGE_ENDINGS) else folder
        split = folder_split(file.relative_to(folder).as_posix())
        every = read(file, Pictures(images or beside), problems)
        found += [replace(one, split=split) if one.split == DEFAULT_SPLIT else one for one in every]
    return found


def _voc(path: Path, images: Path | None, problems: Problems | None) -> list[Labels]:
    return [read_voc_labels(path, split, problems, images) for split in VocTree(path).splits]


def _tables(
    tables: list[Path], images: Path | None, stated: Mapping[str, Any] | None, problems: Problems | None
) -> list[Labels]:
    """Several tables are splits, called like their folders if these differ (Roboflow), else like the files."""
    if len(tables) == 1:
        return read_layout(tables[0], images, stated, problems)
    found = []
    folders = {file.parent for file in tables}
    for file in tables:
        split = file.parent.name if len(folders) == len(tables) else file.stem
        every = read_layout(file, images or file.parent, stated, problems)
        own = [labels.split for labels in every] != [DEFAULT_SPLIT]  # a column states its splits
        found += every if own else [replace(labels, split=split) for labels in every]
    return found


def _is_yolo(path: Path) -> bool:
    """Whether a folder has YOLO's configuration, or text files beside pictures or in `labels`."""
    if files_in(path, ".data", ".names") or files_in(path / "cfg", ".data") or (path / "classes.txt").is_file():
        return True
    if any("names:" in read_text(file, _MAX_BYTES, DataError) for file in files_in(path, ".yaml", ".yml")):
        return True
    texts = files_below(path, ".txt")
    return any("labels" in text.relative_to(path).parts[:-1] for text in texts) or any(
        text.with_suffix(ending).is_file() for text in texts[:1000] for ending in (".jpg", ".png", ".jpeg")
    )


def _kind_of_json(path: Path) -> str:
    try:
        content = read_json(path, _MAX_BYTES)
    except FrcnnError:
        return ""
    for name, recognises in (
        ("COCO", is_coco), ("labelme", is_labelme), ("Label Studio", is_label_studio), ("VGG Image Annotator", is_via)
    ):  # fmt: skip
        if recognises(content):
            return name
    return ""


def _beside(path: Path) -> Path:
    """The folder of the images of a file: its own if images are in or below it, otherwise the parent; for JSON, the
    folder `images` in it if there is one."""
    folder = path.parent
    if not files_below(folder, *IMAGE_ENDINGS):
        folder = folder.absolute().parent
    return folder / "images" if (folder / "images").is_dir() and path.suffix.lower() == ".json" else folder
