"""A recipe: what a detector is trained and tested with, section by section, checked.

`paper.toml`, beside this file, writes out every value as the authors' released code of 2015 has it (VOC 2007, VGG16);
the defaults are those. `modern.toml` and recipes of users name the recipe that they start from, and what they change.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Self, get_type_hints

from frcnn_cli.errors import UsageError
from frcnn_cli.recipes.sections import Detection, Images, Loss, Network, Sampling, Solver, Targets
from frcnn_cli.recipes.values import checked, meant


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
        for key in keys():
            value = self.get(key)
            for one in value if isinstance(value, tuple) else (value,):
                if isinstance(one, (int, float)) and (wrong := _about(key)["bounds"].broken_by(one)):
                    raise UsageError(f"{key} {wrong}")
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
                raise UsageError(f"a recipe has no {key!r}{meant(key, keys())}", "frcnn recipes show paper lists all")
            section, _, name = key.partition(".")
            sections.setdefault(section, {})[name] = checked(key, keys()[key], value)
        made = {name: dataclasses.replace(getattr(self, name), **changes) for name, changes in sections.items()}
        return dataclasses.replace(self, **made)

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
                raise UsageError(f"a recipe has no value {section!r} outside its sections{meant(section, keys())}")
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


def differences(first: Recipe, second: Recipe) -> dict[str, tuple[Any, Any]]:
    """Every value, by `section.name`, that the two do not share."""
    pairs = {key: (first.get(key), second.get(key)) for key in keys()}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def explanation(key: str) -> str:
    """What a value means, as a sentence for help."""
    return f"{key}: {_about(key)['help']}."


@cache
def keys() -> dict[str, Any]:
    """The type of every value, by `section.name`."""
    sections = get_type_hints(Recipe)
    return {f"{s.name}.{n}": hint for s in fields(Recipe) for n, hint in get_type_hints(sections[s.name]).items()}


def _about(key: str) -> Mapping[str, Any]:
    """Of a value: its `help`, a string, and its `bounds`."""
    section, _, name = key.partition(".")
    about: Mapping[str, Any] = get_type_hints(Recipe)[section].__dataclass_fields__[name].metadata
    return about
