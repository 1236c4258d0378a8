"""The state of a training run on disk, from which `--resume` continues.

`state.safetensors` holds the weights as trained, momentum, moving average, target statistics, iteration and
configuration: everything that resuming needs, in one file that is replaced atomically. Random numbers depend on (seed,
iteration), so there is no generator state.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from frcnn_cli.core.errors import FileFormatError, FrcnnError, UsageError
from frcnn_cli.core.run_files import STATE_FILE
from frcnn_cli.detector.config import ModelConfig
from frcnn_cli.detector.detector import Detector
from frcnn_cli.detector.header import STATE_KEY
from frcnn_cli.detector.tensor_file import check_tensors, load_tensors, save_tensors
from frcnn_cli.recipes.recipe import Recipe
from frcnn_cli.training.log import Step
from frcnn_cli.training.roi_targets import TargetStatistics

_OLDEST = 3  # the first version that can be continued
_START_AGAIN = "Start the run again from scratch with --force"


@dataclass(frozen=True)
class RunState:
    """What a checkpoint records besides tensors.

    iteration: the number of finished iterations. frozen: the number of leading conv modules that are not trained.
    from_maps: whether the conv layers are replaced by cached maps.
    data: where images and proposals came from, as `frcnn train` records it. images_digest: identifies them.
    unlogged: the last iterations, which are not in the log yet because it has one line per ten.
    """

    iteration: int
    model: ModelConfig
    recipe: Recipe
    frozen: int
    from_maps: bool
    data: dict[str, Any]
    images_digest: str
    unlogged: tuple[Step, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"model": self.model.to_json(), "recipe": self.recipe.to_dict()}


class TrainingTensors(NamedTuple):
    """Tensors besides the weights: momentum and moving average by parameter, and the target statistics."""

    momentum: dict[str, Tensor]
    average: dict[str, Tensor]
    statistics: TargetStatistics


def save_state(folder: Path, state: RunState, detector: Detector, tensors: TrainingTensors) -> None:
    """Writes `state.safetensors` atomically."""
    groups = {"model": detector.state_dict(), "momentum": tensors.momentum, "average": tensors.average}
    named = {
        f"{group}.{name}": value.detach().cpu().contiguous()
        for group, values in groups.items()
        for name, value in values.items()
    }
    named["targets.mean"] = torch.from_numpy(tensors.statistics.mean)
    named["targets.std"] = torch.from_numpy(tensors.statistics.std)
    save_tensors(named, folder / STATE_FILE, STATE_KEY, state.to_json())


def read_state(folder: Path) -> tuple[RunState, dict[str, Tensor]]:
    """The last checkpoint of a run.

    Raises:
        FrcnnError: there is none, or it is damaged or from a newer version.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        missing = "holds no checkpoint to continue from" if folder.is_dir() else "does not exist"
        raise FrcnnError(f"{folder} {missing}", "Start the run without --resume")
    values, tensors = load_tensors(path, STATE_KEY)
    if values["version"] < _OLDEST:
        raise FileFormatError(f"{path} was written by an older frcnn", _START_AGAIN)
    try:
        state = RunState(
            iteration=int(values["iteration"]),
            model=ModelConfig.from_json(values["model"]),
            recipe=Recipe.recorded(values["recipe"]),
            frozen=int(values["frozen"]),
            from_maps=bool(values["from_maps"]),
            data=dict(values["data"]),
            images_digest=str(values["images_digest"]),
            unlogged=tuple(Step.from_json(step) for step in values.get("unlogged", [])),
        )
    except (KeyError, TypeError, ValueError, OverflowError, UsageError) as error:
        raise FileFormatError(
            f"{path} has a damaged description ({getattr(error, 'what', error)})", _START_AGAIN
        ) from None
    return state, tensors


def restore(
    tensors: dict[str, Tensor], detector: Detector, trained: set[str], recipe: Recipe, path: Path
) -> TrainingTensors:
    """Loads the weights of a checkpoint into `detector` and returns the other tensors.

    Args:
        trained: the parameters that have momentum, and a moving average if the recipe uses one.

    Raises:
        FileFormatError: a tensor is missing, of another shape, or unknown.
    """
    groups: dict[str, dict[str, Tensor]] = {"model": {}, "momentum": {}, "average": {}, "targets": {}}
    for name, value in tensors.items():
        group, _, rest = name.partition(".")
        if group not in groups:
            raise FileFormatError(f"{path} has an unknown tensor {name!r}", _START_AGAIN)
        groups[group][rest] = value
    check_tensors(detector.state_dict(), groups["model"], path)
    detector.load_state_dict(groups["model"])
    expected = {name: value.detach() for name, value in detector.named_parameters() if name in trained}
    check_tensors(expected, groups["momentum"], path)
    if recipe.solver.ema_decay:
        check_tensors(expected, groups["average"], path)
    shape = (len(detector.classes) + 1, 4)
    for name in ("mean", "std"):
        if name not in groups["targets"] or tuple(groups["targets"][name].shape) != shape:
            raise FileFormatError(f"{path} lacks targets.{name}", _START_AGAIN)
    statistics = TargetStatistics(groups["targets"]["mean"].numpy(), groups["targets"]["std"].numpy())
    return TrainingTensors(groups["momentum"], groups["average"], statistics)
