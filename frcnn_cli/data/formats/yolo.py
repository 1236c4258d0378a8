"""YOLO's labels: one text file per picture, one line per object, in fractions of the image size.

A picture `images/SPLIT/x.jpg` has its labels in `labels/SPLIT/x.txt`, or beside it (darknet, LabelImg, CVAT). The
classes and splits are stated by `data.yaml`, by `obj.data` and `obj.names`, or by `classes.txt`; without a list, the
folders are the splits. A picture without a file of labels has no objects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from frcnn_cli.core.annotations import GroundTruth
from frcnn_cli.core.errors import DataError
from frcnn_cli.core.files import files_below, write_atomic
from frcnn_cli.core.image import ImageRecord
from frcnn_cli.data.dataset import Dataset
from frcnn_cli.data.formats.images import copy_image, file_names
from frcnn_cli.data.formats.pictures import Pictures, box_around
from frcnn_cli.data.formats.splits import by_split, check_split
from frcnn_cli.data.formats.yolo_config import (
    MAX_BYTES,
    NAME_FILES,
    SPLIT_NAMES,
    YoloConfig,
    class_names,
    keys_by_split,
    place_of,
    read_config,
    yolo_root,
)
from frcnn_cli.data.labels import (
    LabelledImage,
    LabelledObject,
    Labels,
    Problems,
    collecting,
    counted,
    plausible,
)
from frcnn_cli.system.untrusted import read_text

_NOT_LABELS = frozenset({*NAME_FILES, *(f"{split}.txt" for split in SPLIT_NAMES), "requirements.txt", "notes.txt"})
_IN_PIXELS = 2.0  # a larger number is no fraction of the image size, even if a box reaches outside


def read_yolo_labels(path: Path, pictures: Pictures, problems: Problems | None = None) -> list[Labels]:
    """The labels of each split.

    One line per object: `class cx cy w h`, or its outline `class x1 y1 x2 y2 x3 y3 ...`, whose bounding box is used;
    with `kpt_shape` in data.yaml, `class cx cy w h` and key points, which are not used.

    Args:
        path: the folder, or its data.yaml or obj.data. pictures: those below the folder.
        problems: receives the errors of single lines, which are then skipped; by default they are raised.

    Raises:
        DataError: no labels, no class names or contradicting ones, a list that names a missing picture, two pictures
            with the same labels, or a line that is not an object.
    """
    root = yolo_root(path)
    config = read_config(path)
    classes = class_names(root, config)
    absent: list[str] = []
    splits = keys_by_split(root, config, pictures, absent)
    label_files = {key: _label_file(root, key) for keys in splits.values() for key in keys}
    _check_shared({key: file for key, file in label_files.items() if file is not None})
    lengths: Counter[int] = Counter()
    objects = {
        key: _read_objects(file, pictures.size(key), classes, config.key_points, lengths, problems) if file else ()
        for key, file in label_files.items()
    }
    if not any(objects.values()):
        raise DataError(f"{root} holds no labels", "YOLO keeps images/SPLIT/x.jpg beside labels/SPLIT/x.txt")
    used = {_label_file(root, key) for key in pictures.refs}
    notes = [
        *counted("{} label file(s) belong to no picture", _lone_labels(root, used, config)),
        *counted(
            "{} picture(s) have no label file and are read as images without objects",
            [key for key, file in label_files.items() if file is None],
        ),
        *counted("{} picture(s) are in no split and are skipped", pictures.refs.keys() - label_files.keys()),
        *counted(f"{{}} list(s) or folder(s) that {config.path.name} names do not exist", absent),
    ]
    if lengths[5]:
        notes.append(f"{lengths[5]} line(s) have a fifth number, which is taken for a confidence and not used")
    if lengths[8] and lengths[8] == lengths.total() and not config.key_points:  # oriented boxes, in some data sets
        notes.append(f"all {lengths[8]} objects are outlines of four corners; the upright boxes around them are used")
    found: list[Labels] = []
    for split, keys in sorted(splits.items()):
        images = [
            LabelledImage(
                pictures.refs[key], label_files[key] or root, pictures.size(key), objects[key], size_stated=False
            )
            for key in keys
        ]
        found += by_split(
            root.name, "YOLO", classes, images, dict.fromkeys(keys, check_split(split, config.path)), notes
        )
    return found


def write_yolo(datasets: Sequence[Dataset], sizes: Mapping[str, ImageRecord], folder: Path) -> None:
    """Writes `images/SPLIT`, `labels/SPLIT` and `data.yaml`; if splits share images, `images`, `labels` and a list per
    split. Objects that are difficult or crowds, which YOLO does not know, are written like others.

    Args:
        sizes: the record of each image, by key.

    Raises:
        DataError: two images would get the same name. FrcnnError: the system refuses to write.
    """
    import yaml

    names = file_names(datasets)
    stems: dict[str, str] = {}
    for key, name in names.items():
        stem = str(Path(name).with_suffix(""))
        if stems.setdefault(stem, key) != key:
            raise DataError(f"{stems[stem]!r} and {key!r} would share {stem}.txt", "Rename one of them")
    keys = [sample.ref.key for dataset in datasets for sample in dataset.samples]
    shared = len(set(keys)) < len(keys)
    for dataset in datasets:
        place = "" if shared else dataset.split
        for sample in dataset.samples:
            name = names[sample.ref.key]
            copy_image(sample.ref.path, folder / "images" / place / name)
            target = folder / "labels" / place / Path(name).with_suffix(".txt")
            write_atomic(target, _text(sample.truth, sizes[sample.ref.key]).encode())
        if shared:
            lines = "".join(f"./images/{names[sample.ref.key]}\n" for sample in dataset.samples)
            write_atomic(folder / f"{dataset.split}.txt", lines.encode())
    stated = {d.split: f"{d.split}.txt" if shared else f"images/{d.split}" for d in datasets}
    content = {"path": ".", **stated, "names": dict(enumerate(datasets[0].classes))}
    write_atomic(folder / "data.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode())


def _text(truth: GroundTruth, record: ImageRecord) -> str:
    """A line per object."""
    lines = []
    for label, (x1, y1, x2, y2) in zip(truth.labels, truth.boxes.astype(float).tolist(), strict=True):
        centre = (x1 + x2) / 2 / record.width, (y1 + y2) / 2 / record.height
        numbers = (*centre, (x2 - x1) / record.width, (y2 - y1) / record.height)
        lines.append(" ".join([str(label), *(f"{number:.12g}" for number in numbers)]) + "\n")
    return "".join(lines)


# Labels.


def _label_file(root: Path, key: str) -> Path | None:
    """The labels of a picture: below `labels` instead of the last folder called `images`, or beside the picture."""
    parts = Path(key).parts
    places = [root / "labels" / key, root / key]
    if "images" in parts[:-1]:
        at = len(parts) - 1 - parts[::-1].index("images")
        places.insert(0, root.joinpath(*parts[:at], "labels", *parts[at + 1 :]))
    return next((file for place in places if (file := place.with_suffix(".txt")).is_file()), None)


def _check_shared(label_files: Mapping[str, Path]) -> None:
    owners: dict[Path, str] = {}
    for key, file in label_files.items():
        if owners.setdefault(file, key) != key:
            what = f"{owners[file]} and {key} share the labels {file}"
            raise DataError(what, "Rename or remove one of the pictures")


def _lone_labels(root: Path, used: set[Path | None], config: YoloConfig) -> list[str]:
    """Label files that belong to no picture."""
    known = used | {place_of(text, root, config.base) for texts in config.splits.values() for text in texts}
    return [
        str(path.relative_to(root))
        for path in files_below(root, ".txt")
        if path not in known and path.name not in _NOT_LABELS and not path.name.startswith("README")
    ]


def _read_objects(
    path: Path,
    size: tuple[float, float],
    classes: Sequence[str],
    key_points: bool,
    lengths: Counter[int],
    problems: Problems | None,
) -> tuple[LabelledObject, ...]:
    """The objects of one file; `lengths` receives how many numbers each has."""
    found = []
    for number, line in enumerate(read_text(path, MAX_BYTES, DataError).splitlines(), 1):
        if line.strip():
            with collecting(problems):
                obj, length = _read_object(line.split(), f"{path} line {number}", size, classes, key_points)
                found.append(obj)
                lengths[length] += 1
    return tuple(found)


def _read_object(
    words: Sequence[str], where: str, size: tuple[float, float], classes: Sequence[str], key_points: bool
) -> tuple[LabelledObject, int]:
    """The object of a line, and how many numbers follow its class."""
    fix = "Write: class cx cy w h, or class x1 y1 x2 y2 x3 y3 ..., in fractions of the image size"
    try:
        label, numbers = int(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        raise DataError(f"{where} is not an object", fix) from None
    outline = len(numbers) >= 6 and len(numbers) % 2 == 0 and not key_points
    confidence = len(numbers) == 5 and 0 <= numbers[4] <= 1  # otherwise it may be an angle
    complete = len(numbers) == 4 or outline or confidence or (key_points and len(numbers) > 4)
    if not complete or label < 0 or not plausible(*numbers):
        raise DataError(f"{where} is not an object", fix)
    if label >= len(classes):
        known = f"there are {len(classes)} names, for 0 to {len(classes) - 1}"
        raise DataError(f"{where} has class {label}, but {known}", "Correct it, or name the class")
    relevant = numbers if outline else numbers[:4]
    written = " ".join(words[1 : 1 + min(len(relevant), 8)])
    if max(map(abs, relevant)) > _IN_PIXELS:
        what = f"{where}: {written} are not fractions of the image size"
        raise DataError(what, "Divide pixels by the width and height")
    if outline:
        x1, y1, x2, y2 = box_around(zip(numbers[::2], numbers[1::2], strict=True))
    else:
        cx, cy, w, h = relevant
        x1, y1, x2, y2 = cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2
    width, height = size
    box = (x1 * width, y1 * height, x2 * width, y2 * height)
    return LabelledObject(classes[label], box, f"{Path(where).name}: {classes[label]} {written}"), len(numbers)
