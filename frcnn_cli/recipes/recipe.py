"""A recipe: what a detector is trained and tested with, section by section, read from TOML and checked.

`paper.toml`, beside this file, writes out every value as the authors' released code of 2015 has it (VOC 2007, VGG16);
the defaults here are those. `modern.toml` and recipes of users name the recipe that they start from, and what they
change.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from frcnn_cli.errors import UsageError, explain_os_error

BUILT_IN = ("paper", "modern")
_MAX_BYTES = 1 << 20

Box = tuple[float, float, float, float]


def _value(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Network:
    """Which network, and which of its layers learn."""

    backbone: str = _value("vgg16", "the classification network that it starts from")
    fine: bool = _value(False, "cells of half the size, for small objects: without the last halving of the map")
    train_from: str = _value("", "first layer that learns, e.g. conv3_1; empty: the backbone's own; fc6: no conv layer")
    pooling: Literal["max", "align"] = _value("max", "RoI max pooling, or RoI align of the same grid")
    classifier: Literal["softmax", "svm"] = _value("softmax", "svm: linear SVMs, fitted when all else is trained")
    class_agnostic: bool = _value(False, "one box for all classes, not one for each")


@dataclass(frozen=True)
class Images:
    """What the network is shown."""

    short_side: int = _value(600, "images are resized to this; 0: as they are")
    long_side: int = _value(1000, "but not above this")
    train_short_sides: tuple[int, ...] = _value((), "training draws one of these an image; empty: short_side")
    test_short_sides: tuple[int, ...] = _value(
        (), "detection looks in all of these, each RoI where it is nearest 224 x 224; empty: short_side"
    )
    normalisation: Literal["backbone", "torchvision", "caffe"] = _value(
        "backbone", "RGB as torchvision's weights want it, BGR as Caffe's; backbone: its own"
    )
    flip: bool = _value(True, "every image twice, as it is and mirrored")
    colour_jitter: float = _value(0.0, "brightness, contrast and saturation are drawn from 1 - this to 1 + this")


@dataclass(frozen=True)
class Sampling:
    """A mini-batch (section 2.3, "Mini-batch sampling")."""

    images: int = _value(2, "images a mini-batch")
    rois: int = _value(128, "RoIs a mini-batch, over its images")
    foreground_fraction: float = _value(0.25, "at most this share of an image's RoIs is foreground")
    foreground_iou: float = _value(0.5, "IoU with an object from which a RoI is foreground")
    background_iou: tuple[float, float] = _value((0.1, 0.5), "background has its best IoU in [low, high)")
    proposals: int = _value(0, "only the best so many of an image; 0: all that there are")
    difficult: bool = _value(True, "train on objects marked difficult (the code of 2015 does, its successor does not)")


@dataclass(frozen=True)
class Targets:
    """What box offsets are normalised by."""

    statistics: Literal["measured", "fixed"] = _value("measured", "of each class on the training set; or as below")
    mean: Box = _value((0.0, 0.0, 0.0, 0.0), "of tx, ty, tw, th, where fixed")
    std: Box = _value((0.1, 0.1, 0.2, 0.2), "of tx, ty, tw, th, where fixed")


@dataclass(frozen=True)
class Loss:
    """L = Lcls + box_weight [u >= 1] Lloc."""

    box_weight: float = _value(1.0, "lambda of the multi-task loss; 0: classification only")
    beta: float = _value(1.0, "where smooth L1 turns from a square to a line")


@dataclass(frozen=True)
class Solver:
    """Stochastic gradient descent. An epoch is one look at each image; every second look is mirrored."""

    epochs: float = _value(16.0, "40,000 iterations of 2 images on the 5,011 of VOC 2007 trainval")
    learning_rate: float = _value(0.001, "of weights")
    schedule: Literal["step", "cosine"] = _value(
        "step", "step_factor times the rate after step_at; or half a cosine to 0"
    )
    step_at: float = _value(0.75, "share of the iterations: 30,000 of 40,000")
    step_factor: float = _value(0.1, "0.001 becomes 0.0001")
    warmup: int = _value(0, "iterations over which the rate rises linearly")
    momentum: float = _value(0.9, "")
    weight_decay: float = _value(0.0005, "of weights")
    bias_rate: float = _value(2.0, "biases learn at this many times the rate")
    bias_decay: bool = _value(False, "decay biases too (the paper says so; its code does not)")
    stages: Literal["joint", "one after the other"] = _value(
        "joint",
        "both losses at once; or all layers by the classification, then the box layer alone, each for all epochs",
    )
    clip_norm: float = _value(0.0, "gradients together are no longer than this; 0: any length")
    average: float = _value(0.0, "the model is a moving average of the weights with this decay; 0: the last weights")
    precision: Literal["float32", "auto"] = _value("float32", "auto: half precision where a GPU has it")
    seed: int = _value(0, "of every random draw")


@dataclass(frozen=True)
class Detection:
    """From scores to detections (section 4.4)."""

    proposals: int = _value(0, "only the best so many of an image; 0: all that there are")
    refine: bool = _value(True, "boxes as the network refines them; otherwise as proposed")
    min_score: float = _value(0.0, "least probability")
    iou: float = _value(0.3, "a box that overlaps a better one of its class this much is suppressed")
    per_class: int = _value(100, "best boxes of a class and image that suppression looks at; 0: all")
    per_set: int = _value(40, "of a class, this many times the number of images are kept of a whole set; 0: all")
    max_per_image: int = _value(0, "best detections of an image that stay; 0: all")


@dataclass(frozen=True)
class Recipe:
    """All sections.

    Raises:
        UsageError: a value that makes no sense.
    """

    network: Network = Network()
    images: Images = Images()
    sampling: Sampling = Sampling()
    targets: Targets = Targets()
    loss: Loss = Loss()
    solver: Solver = Solver()
    detection: Detection = Detection()

    def __post_init__(self) -> None:
        for key, least, most in _BOUNDS:
            value = self.get(key)
            for one in value if isinstance(value, tuple) else (value,):
                if not least <= one <= most:
                    raise UsageError(f"{key} is {one:g}, not from {least:g} to {most:g}")
        for key in ("solver.epochs", "solver.learning_rate", "loss.beta"):
            if not self.get(key) > 0:
                raise UsageError(f"{key} must be above 0")
        if not all(spread > 0 for spread in self.targets.std):
            raise UsageError("targets.std must be above 0")
        low, high = self.sampling.background_iou
        if low >= high:
            raise UsageError(f"sampling.background_iou: the range [{low:g}, {high:g}) is empty")
        if self.sampling.rois < self.sampling.images:
            raise UsageError("a mini-batch needs at least one RoI an image: sampling.rois is below sampling.images")

    @property
    def short_sides(self) -> tuple[int, ...]:
        """What images are resized to in training."""
        return self.images.train_short_sides or (self.images.short_side,)

    def iterations(self, images: int) -> int:
        """Mini-batches until every one of `images` was seen `solver.epochs` times, in each stage."""
        return max(1, round(self.solver.epochs * images / self.sampling.images))

    @property
    def stages(self) -> int:
        """How often the schedule is run through."""
        return 1 if self.solver.stages == "joint" else 2

    def get(self, key: str) -> Any:
        """The value of `section.name`."""
        section, _, name = key.partition(".")
        return getattr(getattr(self, section), name)

    def changed(self, values: Mapping[str, Any]) -> Self:
        """With other values, by `section.name`.

        Raises:
            UsageError: no such value, or one of another type, or one that makes no sense.
        """
        sections: dict[str, dict[str, Any]] = {}
        for key, value in values.items():
            if key not in keys():
                raise UsageError(f"a recipe has no {key!r}{_meant(key)}", "frcnn recipes show paper lists all")
            section, _, name = key.partition(".")
            sections.setdefault(section, {})[name] = _checked(key, value)
        made = {name: dataclasses.replace(getattr(self, name), **changes) for name, changes in sections.items()}
        return dataclasses.replace(self, **made)

    def set(self, pairs: Iterable[str]) -> Self:
        """With `section.name=value` as typed; values as in TOML, text also without quotes."""
        values = {}
        for pair in pairs:
            key, equals, text = pair.partition("=")
            if not equals:
                raise UsageError(f"{pair!r} is not section.name=value", "For example solver.epochs=8")
            values[key.strip()] = _parsed(text.strip())
        return self.changed(values)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Plain JSON values, by section and name."""
        return json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, sections: Mapping[str, Any], base: Recipe | None = None) -> Recipe:
        """The inverse of `to_dict`; what is missing is as in `base`.

        Raises:
            UsageError: as `changed`.
        """
        if not isinstance(sections, Mapping):
            raise UsageError(f"{sections!r} is not a recipe")
        values: dict[str, Any] = {}
        for section, content in sections.items():
            if not isinstance(content, Mapping):
                raise UsageError(f"a recipe has no value {section!r} outside its sections{_meant(section)}")
            values |= {f"{section}.{name}": value for name, value in content.items()}
        return (base or cls()).changed(values)

    def to_toml(self) -> str:
        """As a recipe file, every value with what it means."""
        lines = []
        for section in fields(self):
            lines.append(f"[{section.name}]")
            values = getattr(self, section.name)
            for name in fields(values):
                text = f"{name.name} = {json.dumps(getattr(values, name.name))}"
                about = name.metadata["help"]
                lines.append(f"{text:<34}# {about}" if about else text)
            lines.append("")
        return "\n".join(lines)


_BOUNDS = (
    ("images.short_side", 0, 10_000),
    ("images.long_side", 1, 10_000),
    ("images.train_short_sides", 1, 10_000),
    ("images.test_short_sides", 1, 10_000),
    ("images.colour_jitter", 0, 1),
    ("sampling.images", 1, 10_000),
    ("sampling.rois", 1, 1_000_000),
    ("sampling.proposals", 0, 1_000_000_000),
    ("sampling.foreground_fraction", 0, 1),
    ("sampling.foreground_iou", 0, 1),
    ("sampling.background_iou", 0, 1),
    ("targets.mean", -100, 100),
    ("targets.std", 0, 100),
    ("loss.box_weight", 0, 1000),
    ("loss.beta", 0, 1000),
    ("solver.epochs", 0, 1e6),
    ("solver.learning_rate", 0, 1e9),
    ("solver.step_at", 0, 1),
    ("solver.step_factor", 0, 1),
    ("solver.warmup", 0, 1_000_000_000),
    ("solver.momentum", 0, 1),
    ("solver.weight_decay", 0, 1),
    ("solver.bias_rate", 0, 1000),
    ("solver.clip_norm", 0, 1e9),
    ("solver.average", 0, 0.999999),
    ("solver.seed", 0, 1_000_000_000_000),
    ("detection.proposals", 0, 1_000_000_000),
    ("detection.min_score", 0, 1),
    ("detection.iou", 0, 1),
    ("detection.per_class", 0, 1_000_000_000),
    ("detection.per_set", 0, 1_000_000_000),
    ("detection.max_per_image", 0, 1_000_000_000),
)


def load(name: str) -> Recipe:
    """A recipe by name, or from a TOML file.

    Raises:
        UsageError: there is none, or it is not a recipe. FrcnnError: the file cannot be read.
    """
    return _load(name, ())


def differences(first: Recipe, second: Recipe) -> dict[str, tuple[Any, Any]]:
    """Every value, by `section.name`, that the two do not share."""
    pairs = {key: (first.get(key), second.get(key)) for key in keys()}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def explanation(key: str) -> str:
    """What a value means, as a sentence for help."""
    section, _, name = key.partition(".")
    about: str = getattr(Recipe(), section).__dataclass_fields__[name].metadata["help"]
    return f"{key}: {about}."


@cache
def keys() -> dict[str, Any]:
    """The type of every value, by `section.name`."""
    sections = get_type_hints(Recipe)
    return {f"{s.name}.{n}": hint for s in fields(Recipe) for n, hint in get_type_hints(sections[s.name]).items()}


def _load(name: str, seen: tuple[str, ...]) -> Recipe:
    if name in seen:
        raise UsageError(f"recipe {name} starts from itself", "Start it from paper or modern")
    if name in BUILT_IN:
        text = resources.files(__package__).joinpath(f"{name}.toml").read_text("utf-8")
    else:
        text = _read(Path(name))
    try:
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{name} is not TOML ({error})", "frcnn recipes show paper prints one") from None
    base = values.pop("base", None)
    if base is not None and not isinstance(base, str):
        raise UsageError(f"{name}: base is {base!r}, not a recipe", 'Write base = "paper"')
    try:
        return Recipe.from_dict(values, _load(base, (*seen, name)) if base else None)
    except UsageError as error:
        error.what = f"{name}: {error.what}" if not seen else error.what
        raise


def _read(path: Path) -> str:
    try:
        if not path.is_file():
            known = f"Write {' or '.join(BUILT_IN)}, or name a TOML file"
            raise UsageError(f"there is no recipe {str(path)!r}{_meant(str(path), BUILT_IN)}", known)
        if path.stat().st_size > _MAX_BYTES:
            raise UsageError(f"{path} is larger than any recipe", "Check the file")
        return path.read_text("utf-8")
    except OSError as error:
        raise explain_os_error(error, path) from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text", "Name a TOML file") from None


def _parsed(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text


def _checked(key: str, value: Any) -> Any:
    """A value of the type that `key` has; whole numbers serve as fractions, lists as tuples."""
    kind = keys()[key]
    made = _as(kind, value)
    if made is None:
        raise UsageError(f"{key} is {value!r}, not {_described(kind)}")
    return made


def _as(kind: Any, value: Any) -> Any:
    """None where the value is of another kind."""
    origin = get_origin(kind)
    if origin is Literal:
        return value if value in get_args(kind) else None
    if origin is tuple:
        kinds = get_args(kind)
        if not isinstance(value, (list, tuple)) or (kinds[-1] is not ... and len(value) != len(kinds)):
            return None
        made = tuple(_as(kinds[0], one) for one in value)
        return None if None in made else made
    if isinstance(value, bool) or kind is bool:
        return value if isinstance(value, bool) and kind is bool else None
    if kind is float and isinstance(value, int):
        return float(value) if abs(value) < 1 << 1000 else None
    if isinstance(value, float) and value - value != 0:  # NaN, infinity
        return None
    return value if isinstance(value, kind) else None


def _described(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(get_args(kind))
    if get_origin(kind) is tuple:
        inner, last = get_args(kind)[0], get_args(kind)[-1]
        return f"a list of {'' if last is ... else str(len(get_args(kind))) + ' '}{_plural[inner]}"
    return _singular[kind]


_singular: dict[type | UnionType, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_plural: dict[type | UnionType, str] = {int: "whole numbers", float: "numbers"}


def _meant(key: str, known: Iterable[str] | None = None) -> str:
    from difflib import get_close_matches

    near = get_close_matches(key, list(known or keys()), n=1)
    return f"; did you mean {near[0]}?" if near else ""
