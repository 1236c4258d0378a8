"""What a run is trained on and how it is watched: everything besides its recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from frcnn_cli.core.errors import UsageError
from frcnn_cli.recipes.recipe import Recipe, differences
from frcnn_cli.system.processes import usable_cores

# Settings that may differ when a run is resumed: paths, whose content is compared instead, and validation.
MAY_CHANGE = frozenset(
    {
        *("data", "props", "features", "weights", "init"),
        *("validate_on", "val_data", "val_props", "validate_every", "patience"),
    }
)


@dataclass(frozen=True)
class RunSettings:
    """The settings of a run, as its checkpoint records them.

    data: the text that names the data set (see `data.spec`). split: None: see `data.spec.default_split`.
    props: the proposals file. features: a file of conv maps, to train only the head.
    weights: "imagenet", "none", or the path of a state dict. init: a model to start from, in place of `weights`.
    classes: use only objects of these classes, separated by commas. bad_boxes, size_mismatch: as in `load_dataset`.
    bad_images: "error", or "skip" to leave out images that cannot be read and that the proposals therefore lack.
    validate_on: the split to validate on. val_data, val_props: its data set and proposals, if they are not those of
    the training set. validate_every: epochs. patience: stop after this many validations without improvement.
    """

    data: str | None = None
    split: str | None = None
    props: str | None = None
    features: str | None = None
    weights: str = "imagenet"
    init: str | None = None
    classes: str | None = None
    bad_boxes: str = "error"
    size_mismatch: str = "error"
    bad_images: str = "error"
    validate_on: str | None = None
    val_data: str | None = None
    val_props: str | None = None
    validate_every: float = 1.0
    patience: int | None = None

    @classmethod
    def recorded(cls, values: Mapping[str, Any]) -> Self:
        """The settings in a checkpoint."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def adapted(settings: RunSettings, recipe: Recipe) -> Recipe:
    """The recipe with the values that cached conv maps require: images of one size and unchanged colours, and no conv
    layer that is trained. Without cached maps, the recipe itself."""
    if settings.features is None:
        return recipe
    return recipe.changed({"images.train_short_sides": [], "images.colour_jitter": 0.0, "network.train_from": "fc6"})


def check_given(settings: RunSettings, recipe: Recipe, given: Mapping[str, Any]) -> None:
    """Refuses recipe values that were given explicitly and that cached conv maps rule out. given: by `section.name`.

    Raises:
        UsageError: see above.
    """
    for key, (own, needed) in differences(recipe, adapted(settings, recipe)).items():
        if key in given:
            raise UsageError(f"{key} cannot be {own} with --features", f"The maps are fixed, so it is {needed}")


def check_settings(settings: RunSettings, recipe: Recipe) -> None:
    """Refuses settings that contradict each other or the recipe.

    Raises:
        UsageError: see above.
    """
    if settings.patience is not None and settings.patience < 1:
        raise UsageError(f"a patience of {settings.patience} would stop training at once", "Use 1 or more")
    if settings.validate_on is None:
        for name in ("patience", "val_data", "val_props"):
            if getattr(settings, name) is not None:
                option = f"--{name.replace('_', '-')}"
                raise UsageError(f"{option} is for validation", "Name a split with --validate-on")
    if settings.patience is not None and (recipe.stages > 1 or recipe.network.classifier == "svm"):
        raise UsageError(
            "--patience cannot be used with several training stages or SVMs: training could stop before the last"
            " stage, or before the SVMs are fitted",
            "Train without --patience",
        )


def default_workers(devices: int = 1) -> int:
    """Processes per device that prepare mini-batches: none on up to two cores, otherwise one per two cores, and at most
    four."""
    cores = usable_cores() // devices
    return 0 if cores <= 2 else min(4, cores // 2)
