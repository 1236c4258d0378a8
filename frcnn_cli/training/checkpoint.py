"""The state of a training run on disk: what `--resume` goes on from.

A run's folder holds `state.safetensors` (weights as trained, momentum, iteration, configuration: all that resuming
needs, in one file, replaced as a whole), `model.safetensors` (the model as detection wants it), `log.jsonl` and
`config.json`. Randomness is drawn from (seed, iteration), so there is no generator state to keep.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from frcnn_cli.errors import FileFormatError, FrcnnError, UsageError
from frcnn_cli.model import Detector, ModelConfig
from frcnn_cli.recipes.recipe import Recipe
from frcnn_cli.training.normalisation import Normalisation
from frcnn_cli.weights import check_tensors, load_safely, save_safely

STATE_FILE = "state.safetensors"
_KEY = "frcnn_run"
_VERSION = 3


@dataclass(frozen=True)
class RunState:
    """What a checkpoint says besides tensors.

    iteration: how many are done. frozen: leading conv modules without gradient. from_maps: the conv layers are not run,
    their maps are read. data: where images and proposals came
    from (as `frcnn train` records it). images_digest: which images those were.
    """

    iteration: int
    model: ModelConfig
    recipe: Recipe
    frozen: int
    from_maps: bool
    data: dict[str, Any]
    images_digest: str

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"model": self.model.to_json(), "recipe": self.recipe.to_dict()}


class Kept(NamedTuple):
    """Tensors besides the weights: momentum and moving average by parameter, and what targets are normalised by."""

    momentum: dict[str, Tensor]
    average: dict[str, Tensor]
    normalisation: Normalisation


def save_state(folder: Path, state: RunState, detector: Detector, kept: Kept) -> None:
    """Writes `state.safetensors`, whole or not at all."""
    groups = {"model": detector.state_dict(), "momentum": kept.momentum, "average": kept.average}
    tensors = {
        f"{group}.{name}": value.detach().cpu().contiguous()
        for group, values in groups.items()
        for name, value in values.items()
    }
    tensors["targets.mean"] = torch.from_numpy(kept.normalisation.mean)
    tensors["targets.std"] = torch.from_numpy(kept.normalisation.std)
    described = {"version": _VERSION, **state.to_json()}
    save_safely(tensors, folder / STATE_FILE, {_KEY: json.dumps(described, sort_keys=True)})


def read_state(folder: Path) -> tuple[RunState, dict[str, Tensor]]:
    """The last checkpoint of a run.

    Raises:
        FrcnnError: there is none, or it is damaged or newer than we are.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        raise FrcnnError(f"{folder} holds no checkpoint to go on from", "Start the run without --resume")
    values, tensors = load_safely(path, _KEY)
    if int(values.get("version", 0)) > _VERSION:
        raise FileFormatError(f"{path} was written by a newer frcnn", "Upgrade frcnn-cli")
    if int(values.get("version", 0)) < _VERSION:
        raise FileFormatError(f"{path} was written by an older frcnn", "Start the run anew with --force")
    try:
        state = RunState(
            iteration=int(values["iteration"]),
            model=ModelConfig.from_json(values["model"]),
            recipe=Recipe.from_dict(values["recipe"]),
            frozen=int(values["frozen"]),
            from_maps=bool(values["from_maps"]),
            data=dict(values["data"]),
            images_digest=str(values["images_digest"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError, UsageError) as error:
        raise FileFormatError(
            f"{path} has a damaged description ({error})", "Start the run anew with --force"
        ) from None
    return state, tensors


def restore(tensors: dict[str, Tensor], detector: Detector, trained: set[str], recipe: Recipe, path: Path) -> Kept:
    """Puts a checkpoint's weights into `detector`, and returns the rest.

    Args:
        trained: the parameters that have momentum, and a moving average if the recipe asks for one.

    Raises:
        FileFormatError: a tensor is missing, misshapen or too many.
    """
    groups: dict[str, dict[str, Tensor]] = {"model": {}, "momentum": {}, "average": {}, "targets": {}}
    for name, value in tensors.items():
        group, _, rest = name.partition(".")
        if group not in groups:
            raise FileFormatError(f"{path} has an unknown tensor {name!r}", "Start the run anew with --force")
        groups[group][rest] = value
    check_tensors(detector.state_dict(), groups["model"], path)
    detector.load_state_dict(groups["model"])
    wanted = {name: value.detach() for name, value in detector.named_parameters() if name in trained}
    check_tensors(wanted, groups["momentum"], path)
    if recipe.solver.average:
        check_tensors(wanted, groups["average"], path)
    shape = (len(detector.config.classes) + 1, 4)
    for name in ("mean", "std"):
        if name not in groups["targets"] or tuple(groups["targets"][name].shape) != shape:
            raise FileFormatError(f"{path} lacks targets.{name}", "Start the run anew with --force")
    targets = Normalisation(groups["targets"]["mean"].numpy(), groups["targets"]["std"].numpy())
    return Kept(groups["momentum"], groups["average"], targets)
