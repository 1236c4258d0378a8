"""Which recipe and settings a run is continued with: its own. Options that are given again must agree with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from frcnn_cli.core.errors import FileFormatError, FrcnnError, UsageError
from frcnn_cli.core.run_files import STATE_FILE
from frcnn_cli.detector.header import STATE_KEY, read_description
from frcnn_cli.recipes.recipe import Recipe, differences
from frcnn_cli.training.settings import MAY_CHANGE, RunSettings

_FIX = "Leave it out to resume, or start a new run"


def recorded_run(folder: Path) -> tuple[RunSettings, Recipe]:
    """The settings and the recipe of a run, read from its checkpoint without importing torch.

    Raises:
        FrcnnError: there is no checkpoint, or it is damaged.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        missing = "holds no checkpoint to continue from" if folder.is_dir() else "does not exist"
        raise FrcnnError(f"{folder} {missing}", "Start the run without --resume")
    description = read_description(path, STATE_KEY)
    try:
        return RunSettings.recorded(description["data"]), Recipe.recorded(description["recipe"])
    except (KeyError, TypeError, AttributeError, UsageError) as error:
        fix = "Start the run again from scratch with --force"
        raise FileFormatError(f"{path} has a damaged description ({getattr(error, 'what', error)})", fix) from None


def continued(
    folder: Path, given: Mapping[str, Any], restate: Callable[[Recipe], Recipe] = lambda own: own
) -> tuple[RunSettings, Recipe]:
    """The settings and the recipe to continue the run in `folder` with.

    Args:
        given: the settings that are given again.
        restate: applies the recipe options that are given again to the run's recipe.

    Raises:
        UsageError: something that is given again differs from the run. Settings in `MAY_CHANGE` may, and the schedule
            may be longer.
    """
    settings, recipe = recorded_run(folder)
    for name, value in given.items():
        own = getattr(settings, name)
        if name not in MAY_CHANGE and value != own:
            option = "--" + name.replace("_", "-")
            raise UsageError(f"{option} {value} differs from the run's own {own}", _FIX)
    settings = replace(settings, **{name: value for name, value in given.items() if name in MAY_CHANGE})
    stated = restate(recipe)
    recipe = longer(recipe, stated)
    for key, (own, other) in differences(recipe, stated).items():
        fix = "A run can only be trained longer" if key in ("solver.epochs", "solver.iterations") else _FIX
        raise UsageError(f"{key} {other} differs from the run's own {own}", fix)
    return settings, recipe


def longer(recipe: Recipe, stated: Recipe) -> Recipe:
    """The recipe of a run with the epochs or iterations of `stated`, if these are more. The learning rate then follows
    the longer schedule from where the run is; a run with two stages or SVMs keeps its length."""
    own, other = recipe.solver, stated.solver
    if recipe.stages > 1 or recipe.network.classifier == "svm":
        return recipe
    if own.epochs and other.epochs > own.epochs:
        return recipe.changed({"solver.epochs": other.epochs})
    if not own.epochs and not other.epochs and other.iterations > own.iterations:
        return recipe.changed({"solver.iterations": other.iterations})
    return recipe
