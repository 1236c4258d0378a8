"""The recipe of a run that starts from a model: its network and its images, and the rest as chosen.

Imports no torch.
"""

from __future__ import annotations

from pathlib import Path

from frcnn_cli.core.errors import FileFormatError, UsageError
from frcnn_cli.core.run_files import model_path
from frcnn_cli.detector.header import MODEL_KEY, read_description
from frcnn_cli.detector.pretrained.models import is_pretrained, pretrained_model
from frcnn_cli.recipes.recipe import Recipe

_SECTIONS = ("network", "images")


def recipe_of_model(model: str) -> Recipe:
    """The recipe that a model was trained with.

    Args:
        model: a path, or the name of a pretrained detector.

    Raises:
        FrcnnError: there is no such model, or the file is damaged.
    """
    if is_pretrained(model):
        return pretrained_model(model).recipe()
    path = model_path(Path(model))
    description = read_description(path, MODEL_KEY)
    try:
        config = description["config"]
        network = config.get("network") or {"backbone": config["backbone"]}
        return Recipe.recorded({"network": network, **(config.get("recipe") or {})})
    except (KeyError, TypeError, AttributeError, UsageError) as error:
        raise FileFormatError(f"{path} has a damaged description ({error})", "Train it again") from None


def recipe_from_init(model: str, recipe: Recipe) -> Recipe:
    """`recipe` with the network and the images of a model. What concerns only new layers or the new training stays as
    `recipe` states it."""
    own = recipe_of_model(model).to_dict()
    values = {f"{section}.{name}": value for section in _SECTIONS for name, value in own[section].items()}
    new_run = ("network.classifier", "network.class_agnostic", "network.train_from")
    for name in (*new_run, "images.flip", "images.colour_jitter"):
        del values[name]
    return recipe.changed(values)
