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
from typing import Any

import torch
from torch import Tensor

from frcnn_cli.errors import FileFormatError, FrcnnError
from frcnn_cli.model import Detector, ModelConfig, check_tensors, load_safely, save_safely
from frcnn_cli.training.config import SamplingConfig, TrainConfig
from frcnn_cli.training.normalisation import Normalisation

STATE_FILE = "state.safetensors"
_KEY = "frcnn_run"
_VERSION = 2  # 1: fc6 read pooled RoIs as [C, S, S]


@dataclass(frozen=True)
class RunState:
    """What a checkpoint says besides tensors.

    iteration: how many are done. frozen: leading conv modules without gradient. data: where images and proposals came
    from (as `frcnn train` records it). images_digest: which images those were.
    """

    iteration: int
    model: ModelConfig
    training: TrainConfig
    frozen: int
    data: dict[str, Any]
    images_digest: str


def save_state(
    folder: Path, state: RunState, detector: Detector, momentum: dict[str, Tensor], normalisation: Normalisation
) -> None:
    """Writes `state.safetensors`, whole or not at all."""
    tensors = {f"model.{name}": value.detach().cpu().contiguous() for name, value in detector.state_dict().items()}
    tensors |= {f"momentum.{name}": value.detach().cpu().contiguous() for name, value in momentum.items()}
    tensors["targets.mean"] = torch.from_numpy(normalisation.mean)
    tensors["targets.std"] = torch.from_numpy(normalisation.std)
    described = {"version": _VERSION, **dataclasses.asdict(state)}
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
        training = dict(values["training"])
        sampling = dict(training.pop("sampling"))
        sampling["background_iou"] = tuple(sampling["background_iou"])
        state = RunState(
            iteration=int(values["iteration"]),
            model=ModelConfig.from_json(values["model"]),
            training=TrainConfig(**training, sampling=SamplingConfig(**sampling)),
            frozen=int(values["frozen"]),
            data=dict(values["data"]),
            images_digest=str(values["images_digest"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise FileFormatError(
            f"{path} has a damaged description ({error})", "Start the run anew with --force"
        ) from None
    return state, tensors


def restore(
    tensors: dict[str, Tensor], detector: Detector, momentum_names: set[str], path: Path
) -> tuple[dict[str, Tensor], Normalisation]:
    """Puts a checkpoint's weights into `detector`; returns the momentum by parameter, and the target statistics."""
    model = {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    check_tensors(detector.state_dict(), model, path)
    detector.load_state_dict(model)
    momentum = {
        name.removeprefix("momentum."): value for name, value in tensors.items() if name.startswith("momentum.")
    }
    wanted = {name: value for name, value in detector.named_parameters() if name in momentum_names}
    check_tensors({name: value.detach() for name, value in wanted.items()}, momentum, path)
    shape = (len(detector.config.classes) + 1, 4)
    for name in ("targets.mean", "targets.std"):
        if name not in tensors or tuple(tensors[name].shape) != shape:
            raise FileFormatError(f"{path} lacks {name}", "Start the run anew with --force")
    return momentum, Normalisation(tensors["targets.mean"].numpy(), tensors["targets.std"].numpy())
