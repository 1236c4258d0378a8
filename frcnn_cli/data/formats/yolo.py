"""YOLO's labels: one text file per picture, one line per object, in fractions of the image size.

A picture `images/SPLIT/x.jpg` has its labels in `labels/SPLIT/x.txt`, or beside it (darknet, LabelImg, CVAT). The
classes and splits are stated by `data.yaml`, by `obj.data` and `obj.names`, or by `classes.txt`; without a list, the
folders are the splits. A picture without a file of labels has no objects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frcnn_cli.core.annotations import GroundTruth
from frcnn_cli.core.errors import DataError, listed
from frcnn_cli.core.files import files_below, files_in, is_below, write_atomic
from frcnn_cli.core.image import ImageRecord
from frcnn_cli.data.dataset import Dataset
from frcnn_cli.data.formats.images import copy_image, file_names
from frcnn_cli.data.formats.pictures import Pictures, box_around
from frcnn_cli.data.formats.splits import by_split, check_split, folder_split
from frcnn_cli.data.labels import (
    LabelledImage,
    LabelledObject,
    Labels,
    Problems,
    collecting,
    counted,
    plausible,
    single,
)
from frcnn_cli.system.untrusted import read_text

MAX_BYTES = 1 << 30
_MAX_YAML_BYTES = 1 << 20
_SPLITS = ("train", "val", "valid", "test")
_NO_SPLITS = ("path", "names", "nc", "download", "kpt_shape", "flip_idx", "roboflow")
_NAME_FILES = ("classes.txt", "obj.names", "predefined_classes.txt", "labels.txt")
_NOT_LABELS = frozenset({*_NAME_FILES, *(f"{split}.txt" for split in _SPLITS), "requirements.txt", "notes.txt"})
_IN_PIXELS = 2.0  # a larger number is no fraction of the image size, even if a box reaches outside


@dataclass
class _Config:
    """What the files of a data set state beside the labels. splits: by name, the paths of lists or folders."""

    path: Path
    names: tuple[str, ...] = ()
    splits: dict[str, list[str]] = field(default_factory=dict)
    base: str = ""
    key_points: bool = False


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
    config = _read_config(path)
    classes = _class_names(root, config)
    splits = _splits(root, config, pictures)
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
        *counted("{} picture(s) are in no split and are left out", pictures.refs.keys() - label_files.keys()),
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
        found += by_split(root.name, "YOLO", classes, images, dict.fromkeys(keys, check_split(split, config.path)))
    return [Labels(**{**vars(one), "notes": tuple(notes) if i == 0 else ()}) for i, one in enumerate(found)]


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


def yolo_root(path: Path) -> Path:
    """The folder of a data set: the one that is named, or that of its data.yaml or .data; darknet keeps the latter in
    `cfg`."""
    if path.is_dir():
        return path
    return path.parent.parent if path.suffix.lower() == ".data" and path.parent.name == "cfg" else path.parent


def _text(truth: GroundTruth, record: ImageRecord) -> str:
    """A line per object."""
    lines = []
    for label, (x1, y1, x2, y2) in zip(truth.labels, truth.boxes.astype(float).tolist(), strict=True):
        centre = (x1 + x2) / 2 / record.width, (y1 + y2) / 2 / record.height
        numbers = (*centre, (x2 - x1) / record.width, (y2 - y1) / record.height)
        lines.append(" ".join([str(label), *(f"{number:.12g}" for number in numbers)]) + "\n")
    return "".join(lines)


# Names and splits.


def _read_config(path: Path) -> _Config:
    if path.is_dir():
        yamls = [path / "data.yaml"] if (path / "data.yaml").is_file() else files_in(path, ".yaml", ".yml")
        datas = files_in(path, ".data") or files_in(path / "cfg", ".data")
        if len(yamls) > 1:
            raise DataError(f"{path} holds {yamls[0].name} and {yamls[1].name}", "Name one of them instead")
        if not yamls and not datas:
            return _Config(path)
        path = (yamls or datas)[0]
    return _read_darknet(path) if path.suffix.lower() == ".data" else _read_yaml(path)


def _read_yaml(path: Path) -> _Config:
    import yaml

    try:
        # Every value as text: `yes` is a class, not True.
        content = yaml.load(read_text(path, _MAX_YAML_BYTES, DataError), yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError, ValueError):
        raise DataError(f"{path} is not YAML", "Write names: [cat, dog]") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} has no names of classes", "Write names: [cat, dog]")
    names = content.get("names")
    if isinstance(names, dict) and set(names) == {str(number) for number in range(len(names))}:
        names = [names[str(number)] for number in range(len(names))]
    if names is not None and (not isinstance(names, list) or not all(isinstance(n, str) and n for n in names)):
        raise DataError(f"{path} has no names of classes", "Write names: [cat, dog]")
    # Whatever else a split is called, it names files or folders that are there.
    splits = {
        split: _listed(value, split, path)
        for split, value in content.items()
        if split in _SPLITS or (split not in _NO_SPLITS and _names_places(value, path.parent))
    }
    return _Config(
        path,
        tuple(names or ()),
        {split: places for split, places in splits.items() if places},
        base if isinstance(base := content.get("path"), str) else "",
        content.get("kpt_shape") is not None,
    )


def _names_places(value: Any, root: Path) -> bool:
    places = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    texts = [place for place in places if isinstance(place, str) and place.strip()]
    return bool(texts) and len(texts) == len(places) and all(is_below(root / text, root) for text in texts[:100])


def _listed(value: Any, split: str, path: Path) -> list[str]:
    places = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    if not all(isinstance(place, str) for place in places):
        raise DataError(f"{path}: {split} is not a path or a list of paths", f"Write {split}: images/{split}")
    return [place for place in places if place.strip()]


def _read_darknet(path: Path) -> _Config:
    """`obj.data`: lines of `classes = 1`, `train = data/train.txt`, `names = data/obj.names`."""
    lines = (line.partition("=") for line in read_text(path, _MAX_YAML_BYTES, DataError).splitlines())
    stated = {name.strip(): value.strip() for name, equals, value in lines if equals}
    config = _Config(path)
    if stated.get("names"):
        file = _place(stated["names"], yolo_root(path), "")
        if file is None:
            what = f"{path} names {stated['names']}, which is not below {yolo_root(path)}"
            raise DataError(what, "Correct its path")
        config.names = _name_per_line(file)
    config.splits = {split: [stated[split]] for split in _SPLITS if stated.get(split)}
    return config


def _class_names(root: Path, config: _Config) -> tuple[str, ...]:
    """The names of all files that state them, which must agree."""
    stated = {config.path: config.names} if config.names else {}
    folders = [root, root / "labels", *sorted(path for path in root.glob("labels/*") if path.is_dir())]
    folders += [root / split / "labels" for split in _SPLITS]
    for folder in folders:
        for file in files_in(folder, ".txt", ".names"):
            if file.name in _NAME_FILES or file.suffix == ".names":
                stated[file] = _name_per_line(file)
    if not stated:
        fix = f"Write names: [cat, dog] to {root / 'data.yaml'}, or a name per line to {root / 'classes.txt'}"
        raise DataError(f"{root} does not name its classes", fix)
    (first, names), *others = stated.items()
    for path, other in others:
        if other != names:
            both = f"{first} names the classes {listed(names, 4)}, but {path} names {listed(other, 4)}"
            raise DataError(both, "Correct or remove the wrong one")
    return single(names, str(first))


def _name_per_line(path: Path) -> tuple[str, ...]:
    return tuple(line.strip() for line in read_text(path, MAX_BYTES, DataError).splitlines() if line.strip())


def _splits(root: Path, config: _Config, pictures: Pictures) -> dict[str, list[str]]:
    """The keys of each split: as the configuration lists them, or else by folder."""
    places = {split: [_place(text, root, config.base) for text in texts] for split, texts in config.splits.items()}
    if any(place is not None for found in places.values() for place in found):
        splits: dict[str, list[str]] = {}
        for split, found in places.items():
            for text, place in zip(config.splits[split], found, strict=True):
                if place is None:
                    what = f"{config.path}: {split} names {text}, which does not exist"
                    raise DataError(what, "Correct the path, or remove the line")
                splits.setdefault(split, []).extend(_keys_at(place, root, pictures))
        return {split: list(dict.fromkeys(keys)) for split, keys in splits.items()}
    splits = {}
    inside = [key for key in pictures.refs if "images" in Path(key).parts[:-1]]
    for key in inside or pictures.refs:
        splits.setdefault(_folder(key) if inside else folder_split(key), []).append(key)
    return splits


def _folder(key: str) -> str:
    """The split of `images/SPLIT/x.jpg` or `SPLIT/images/x.jpg`."""
    folders = list(Path(key).parts[:-1])
    folders.remove("images")
    return folders[0] if folders else "trainval"


def _place(text: str, root: Path, base: str) -> Path | None:
    """The file or folder that a path means: relative to `base`, or by its last parts if it was written elsewhere."""
    parts = [part for part in Path(text.replace("\\", "/")).parts if part not in ("..", ".", "/")]
    candidates = [root / base / text, root / text]
    candidates += [root.joinpath(*parts[start:]) for start in range(len(parts))]
    return next((place for place in candidates if is_below(place, root)), None)


def _keys_at(place: Path, root: Path, pictures: Pictures) -> list[str]:
    """The pictures below a folder, or those that a list names."""
    if place.is_dir():
        inside = place.resolve().relative_to(root.resolve()).as_posix()
        return [key for key in pictures.refs if inside == "." or key.startswith(f"{inside}/")]
    keys, absent = [], []
    for line in read_text(place, MAX_BYTES, DataError).splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            ref = pictures.find(line.strip(), str(place))
            keys += [ref.key] if ref is not None else []
            absent += [line.strip()] if ref is None else []
    if absent:
        missing = f"{place} names {len(absent)} picture(s) that are not in {root}, e.g. {absent[0][:200]}"
        raise DataError(missing, "Add them, or remove their lines")
    return keys


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


def _lone_labels(root: Path, used: set[Path | None], config: _Config) -> list[str]:
    """Label files that belong to no picture."""
    known = used | {_place(text, root, config.base) for texts in config.splits.values() for text in texts}
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
