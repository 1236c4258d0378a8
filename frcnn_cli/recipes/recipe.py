"""A recipe: everything that a detector is trained and tested with, section by section, validated.

`Recipe()` is the `paper` recipe (see `sections`). Other recipes state what they start from and what they change.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Self, get_args, get_type_hints

from frcnn_cli.core.errors import FrcnnWarning, UsageError
from frcnn_cli.core.options import Option, did_you_mean, options_of
from frcnn_cli.recipes.files import read_recipe
from frcnn_cli.recipes.sections import BackboneName, Detection, Images, Loss, Network, Sampling, Solver, Targets

# Names and values of frcnn 0.1 that have changed since; files that use them are still read.
_RENAMED_KEYS = {"solver.average": "solver.ema_decay", "solver.bias_rate": "solver.bias_lr_factor"}
_RENAMED_VALUES = {("solver.stages", "one after the other"): "sequential"}


@dataclass(frozen=True)
class Recipe:
    """All sections. `Recipe.load("modern")` reads one by name, or from a TOML file.

    Raises:
        UsageError: a value out of its bounds, or values that contradict each other.
    """

    network: Network = Network()
    images: Images = Images()
    sampling: Sampling = Sampling()
    targets: Targets = Targets()
    loss: Loss = Loss()
    solver: Solver = Solver()
    detection: Detection = Detection()

    def __post_init__(self) -> None:
        for key, opt in recipe_options().items():
            try:
                opt.parse(self.get(key))
            except UsageError as error:
                raise UsageError(f"{key.partition('.')[0]}.{error.what}", error.fix) from None
        backbone = self.network.backbone
        if backbone not in get_args(BackboneName) and ":" not in backbone:
            known = did_you_mean(backbone, get_args(BackboneName))
            choices = ", ".join(get_args(BackboneName))
            raise UsageError(
                f"network.backbone is {backbone!r}, which is unknown{known}", f"Choose one of {choices}, or timm:NAME"
            )
        if self.network.fine and backbone.startswith("timm:"):
            raise UsageError("network.fine=true is not supported for networks of timm", "Add --set network.fine=false")
        low, high = self.sampling.background_iou
        if low >= high:
            raise UsageError(
                f"sampling.background_iou: the range [{low:g}, {high:g}) is empty", "LOW must be less than HIGH"
            )
        if len(self.network.grid) not in (0, 2):
            numbers = ",".join(map(str, self.network.grid))
            raise UsageError(f"network.grid is {numbers}", "Write the number of rows and of columns, e.g. 7,5")
        if self.network.pyramid and self.network.fine:
            raise UsageError(
                "network.fine=true cannot be used with network.pyramid=true", "A pyramid has levels with small cells"
            )
        if self.sampling.rois < self.sampling.images:
            raise UsageError(
                f"sampling.rois={self.sampling.rois} is less than sampling.images={self.sampling.images}",
                "A mini-batch needs at least one RoI per image",
            )

    @classmethod
    def load(cls, name: str) -> Recipe:
        """A recipe by name ("paper", "modern") or from a TOML file.

        Raises:
            UsageError: there is no such recipe, or the file is not one. FrcnnError: the file cannot be read.
        """
        recipe = cls()
        for origin, values in read_recipe(name):
            try:
                recipe = cls.from_dict(values, recipe)
            except UsageError as error:
                raise UsageError(f"{origin}: {error.what}", error.fix) from None
        return recipe

    @property
    def short_sides(self) -> tuple[int, ...]:
        """The short sides that images are resized to in training."""
        return self.images.train_short_sides or (self.images.short_side,)

    def iterations(self, images: int) -> int:
        """The mini-batches of one training stage on this number of images: `solver.iterations`, or as many as
        `solver.epochs` makes."""
        if self.solver.epochs == 0:
            return self.solver.iterations
        return max(1, round(self.solver.epochs * images / self.sampling.images))

    @property
    def stages(self) -> int:
        """How many times the schedule runs."""
        return 1 if self.solver.stages == "joint" else 2

    def get(self, key: str) -> Any:
        """The value of `section.name`."""
        section, _, name = key.partition(".")
        return getattr(getattr(self, section), name)

    def changed(self, values: Mapping[str, Any]) -> Self:
        """This recipe with other values, by `section.name`: text as typed, or Python, TOML or JSON values. A number of
        iterations replaces the number of epochs, unless both are given.

        Raises:
            UsageError: an unknown name, a value of the wrong type or out of bounds, or a contradiction.
        """
        sections: dict[str, dict[str, Any]] = {}
        for given, value in values.items():
            key, value = _current_name(given, value)
            opt = recipe_options().get(key)
            if opt is None:
                unknown = f"a recipe has no value {key!r}{did_you_mean(key, recipe_options())}"
                raise UsageError(unknown, "frcnn recipes show paper lists all values")
            section, _, name = key.partition(".")
            try:
                sections.setdefault(section, {})[name] = opt.parse(value)
            except UsageError as error:
                raise UsageError(f"{section}.{error.what}", error.fix) from None
        if "iterations" in sections.get("solver", {}):
            sections["solver"].setdefault("epochs", 0.0)
        made = {name: dataclasses.replace(getattr(self, name), **changes) for name, changes in sections.items()}
        return dataclasses.replace(self, **made)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Plain JSON values, by section and name."""
        return json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, sections: Mapping[str, Any], base: Recipe | None = None) -> Recipe:
        """The inverse of `to_dict`; missing values are those of `base` (by default of `paper`).

        Raises:
            UsageError: as `changed`.
        """
        if not isinstance(sections, Mapping):
            raise UsageError(f"{sections!r} is not a recipe")
        values: dict[str, Any] = {}
        for section, content in sections.items():
            if not isinstance(content, Mapping):
                known = did_you_mean(section, recipe_options())
                raise UsageError(
                    f"{section!r} is outside any section{known}",
                    "Put it below the header of its section, such as [solver]",
                )
            values |= {f"{section}.{name}": value for name, value in content.items()}
        return (base or cls()).changed(values)

    @classmethod
    def recorded(cls, sections: Mapping[str, Any]) -> Recipe:
        """The recipe in a file that frcnn wrote, in any version: like `from_dict`, without a note on old names."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FrcnnWarning)
            return cls.from_dict(sections)

    def to_toml(self) -> str:
        """The recipe as a TOML file, every value with its meaning as a comment."""
        lines = []
        for section in fields(self):
            lines.append(f"[{section.name}]")
            for opt in options_of(type(getattr(self, section.name))):
                lines.append(f"# {opt.help}")
                lines.append(f"{opt.name} = {json.dumps(self.get(f'{section.name}.{opt.name}'))}")
            lines.append("")
        return "\n".join(lines)


def differences(first: Recipe, second: Recipe) -> dict[str, tuple[Any, Any]]:
    """The values, by `section.name`, in which two recipes differ."""
    pairs = {key: (first.get(key), second.get(key)) for key in recipe_options()}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


@cache
def recipe_options() -> dict[str, Option]:
    """Every value as declared, by `section.name`."""
    sections = get_type_hints(Recipe)
    return {f"{s.name}.{opt.name}": opt for s in fields(Recipe) for opt in options_of(sections[s.name])}


def _current_name(key: str, value: Any) -> tuple[str, Any]:
    """A key and value of an older version under their present names; warns if they were renamed."""
    new_key = _RENAMED_KEYS.get(key, key)
    new_value = _RENAMED_VALUES.get((new_key, value.strip("\"'")), value) if isinstance(value, str) else value
    if (new_key, new_value) != (key, value) and key in _RENAMED_KEYS:
        warnings.warn(FrcnnWarning(f"the recipe value {key} is now called {new_key}"), stacklevel=3)
    elif new_value is not value:
        warnings.warn(FrcnnWarning(f"the value {value!r} of {key} is now called {new_value!r}"), stacklevel=3)
    return new_key, new_value
