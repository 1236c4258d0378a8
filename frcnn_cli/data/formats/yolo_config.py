"""What YOLO's files state beside the labels: the names of the classes, and the splits."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frcnn_cli.core.errors import DataError, listed
from frcnn_cli.core.files import files_in, is_below
from frcnn_cli.data.formats.pictures import Pictures
from frcnn_cli.data.formats.splits import folder_split
from frcnn_cli.data.labels import single
from frcnn_cli.system.untrusted import read_text

MAX_BYTES = 1 << 30
NAME_FILES = ("classes.txt", "obj.names", "predefined_classes.txt", "labels.txt")
SPLIT_NAMES = ("train", "val", "valid", "test")
_NO_SPLITS = ("path", "names", "nc", "download", "kpt_shape", "flip_idx", "roboflow")
_MAX_YAML_BYTES = 1 << 20


@dataclass
class YoloConfig:
    """What data.yaml or obj.data states.

    path: the file, or the folder if there is none. names: of the classes, in order.
    splits: by name, the paths of lists or folders. base: the folder that these are relative to, as written.
    key_points: whether key points follow the box of each object.
    """

    path: Path
    names: tuple[str, ...] = ()
    splits: dict[str, list[str]] = field(default_factory=dict)
    base: str = ""
    key_points: bool = False


def yolo_root(path: Path) -> Path:
    """The folder of a data set: the one that is named, or that of its data.yaml or .data; darknet keeps the latter in
    `cfg`."""
    if path.is_dir():
        return path
    return path.parent.parent if path.suffix.lower() == ".data" and path.parent.name == "cfg" else path.parent


def read_config(path: Path) -> YoloConfig:
    """What a data.yaml or .data file states; for a folder, the one inside it. Raises DataError."""
    if path.is_dir():
        yamls = [path / "data.yaml"] if (path / "data.yaml").is_file() else files_in(path, ".yaml", ".yml")
        datas = files_in(path, ".data") or files_in(path / "cfg", ".data")
        if len(yamls) > 1:
            raise DataError(f"{path} holds {yamls[0].name} and {yamls[1].name}", "Name one of them instead")
        if not yamls and not datas:
            return YoloConfig(path)
        path = (yamls or datas)[0]
    return _read_darknet(path) if path.suffix.lower() == ".data" else _read_yaml(path)


def _read_yaml(path: Path) -> YoloConfig:
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
        if split in SPLIT_NAMES or (split not in _NO_SPLITS and _names_places(value, path.parent))
    }
    return YoloConfig(
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


def _read_darknet(path: Path) -> YoloConfig:
    """`obj.data`: lines of `classes = 1`, `train = data/train.txt`, `names = data/obj.names`."""
    lines = (line.partition("=") for line in read_text(path, _MAX_YAML_BYTES, DataError).splitlines())
    stated = {name.strip(): value.strip() for name, equals, value in lines if equals}
    config = YoloConfig(path)
    if stated.get("names"):
        file = place_of(stated["names"], yolo_root(path), "")
        if file is None:
            what = f"{path} names {stated['names']}, which is not below {yolo_root(path)}"
            raise DataError(what, "Correct its path")
        config.names = _name_per_line(file)
    config.splits = {split: [stated[split]] for split in SPLIT_NAMES if stated.get(split)}
    return config


def class_names(root: Path, config: YoloConfig) -> tuple[str, ...]:
    """The names of all files that state them, which must agree."""
    stated = {config.path: config.names} if config.names else {}
    folders = [root, root / "labels", *sorted(path for path in root.glob("labels/*") if path.is_dir())]
    folders += [root / split / "labels" for split in SPLIT_NAMES]
    for folder in folders:
        for file in files_in(folder, ".txt", ".names"):
            if file.name in NAME_FILES or file.suffix == ".names":
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


def keys_by_split(root: Path, config: YoloConfig, pictures: Pictures, absent: list[str]) -> dict[str, list[str]]:
    """The keys of each split: as the configuration lists them, or else by folder.

    Args:
        absent: receives the lists and folders that the configuration names and that do not exist, as text for the
            user: exports often name a split that has no images.
    """
    places = {split: [place_of(text, root, config.base) for text in texts] for split, texts in config.splits.items()}
    if any(place is not None for found in places.values() for place in found):
        splits: dict[str, list[str]] = {}
        for split, found in places.items():
            for text, place in zip(config.splits[split], found, strict=True):
                if place is None:
                    absent.append(f"{split}: {text[:200]}")
                    continue
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


def place_of(text: str, root: Path, base: str) -> Path | None:
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
