"""What detection needs to know besides the weights."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

from frcnn_cli.core.errors import FileFormatError
from frcnn_cli.detector.rpn.config import RPNConfig
from frcnn_cli.features.backbones import backbone_spec
from frcnn_cli.features.backbones.spec import MeanStd, Normalisation
from frcnn_cli.features.transform import ImageTransform
from frcnn_cli.recipes.recipe import Recipe
from frcnn_cli.recipes.sections import Network
from frcnn_cli.roi.head import HIDDEN

NO_PROPOSALS: dict[str, Any] = {
    "source": {"name": "none", "version": "0", "options": {}},
    "max_boxes": 2000,
    "min_size": 0.0,
}


@dataclass(frozen=True)
class ModelConfig:
    """The configuration of a detector.

    network: the network and its options.
    classes: the K class names, without the background.
    transform: how images are resized and normalised.
    proposals: the boxes that the model was trained with, as `frcnn proposals` records them: the source (name, version,
        options), `max_boxes` and `min_size`.
    ranks: by name, hidden layers that truncated SVD replaced by two layers of that rank.
    recipe: what the model was trained with; empty if unknown.
    rpn: of the region proposal network that shares the conv maps; None if there is none.

    Raises:
        ValueError: no classes, incomplete `proposals`, or ranks of layers that do not exist.
    """

    network: Network
    classes: tuple[str, ...]
    transform: ImageTransform
    proposals: dict[str, Any]
    ranks: dict[str, int] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    rpn: RPNConfig | None = None

    def __post_init__(self) -> None:
        if not self.classes:
            raise ValueError("no classes")
        if not {"source", "max_boxes", "min_size"} <= set(self.proposals):
            raise ValueError("the proposals are not described")
        if not {"name", "version", "options"} <= set(self.proposals["source"]):
            raise ValueError("the source of the proposals is not described")
        if not set(self.ranks) <= set(HIDDEN) or not all(1 <= rank <= 1 << 20 for rank in self.ranks.values()):
            raise ValueError(f"the ranks of hidden layers are not valid: {self.ranks}")

    @classmethod
    def of_recipe(cls, recipe: Recipe, classes: tuple[str, ...], proposals: dict[str, Any]) -> Self:
        """The configuration of a model that is trained with this recipe."""
        return cls(recipe.network, classes, image_transform(recipe), proposals, recipe=recipe.to_dict())

    @cached_property
    def as_recipe(self) -> Recipe:
        """The recipe, as far as it is known."""
        return Recipe.recorded(self.recipe or {"network": dataclasses.asdict(self.network)})

    def with_recipe_values(self, values: dict[str, Any]) -> Self:
        """This configuration with other values of its recipe, by `section.name`."""
        recipe = self.as_recipe.changed(values)
        return dataclasses.replace(self, network=recipe.network, recipe=recipe.to_dict())

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"geometry": backbone_spec(self.network.backbone).geometry}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_json`, also for files of earlier versions.

        Raises:
            KeyError, TypeError, ValueError, UsageError: a value is missing or invalid.
            FileFormatError: the backbone has another geometry today.
        """
        transform = dict(values["transform"])
        for name in ("mean", "std"):
            transform[name] = tuple(float(v) for v in transform[name])
            if len(transform[name]) != 3:
                raise ValueError(f"{name} has {len(transform[name])} values")
        classes = tuple(str(name) for name in values["classes"])
        proposals = dict(values["proposals"])
        proposals |= {"max_boxes": int(proposals["max_boxes"]), "min_size": float(proposals["min_size"])}
        ranks = {str(name): int(rank) for name, rank in dict(values.get("ranks", {})).items()}
        network = values.get("network") or {"backbone": values["backbone"]}
        recipe = Recipe.recorded({"network": network, **(values.get("recipe") or {})})
        backbone = recipe.network.backbone
        if values.get("geometry", 1) != backbone_spec(backbone).geometry:
            raise FileFormatError(
                f"the model was trained with an older {backbone}, whose padding differs (see docs/fidelity.md)",
                "Train it again",
            )
        described = recipe.to_dict() if values.get("recipe") else {}
        rpn = RPNConfig.from_json(values["rpn"]) if values.get("rpn") else None
        return cls(recipe.network, classes, ImageTransform(**transform), proposals, ranks, described, rpn)


def image_transform(recipe: Recipe) -> ImageTransform:
    """How a detector of this recipe resizes and normalises images."""
    images = recipe.images
    normalisation: Normalisation = "torchvision"
    if images.normalisation == "backbone":
        normalisation = backbone_spec(recipe.network.backbone).normalisation
    else:
        normalisation = images.normalisation
    if isinstance(normalisation, MeanStd):
        sides = (images.short_side, images.long_side)
        return ImageTransform(*sides, *normalisation, resizing=images.resizing)
    return ImageTransform.as_trained(normalisation, images.short_side, images.long_side, images.resizing)
