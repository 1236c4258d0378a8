"""Models as files: weights and a JSON description in one `.safetensors` file; reading one runs no code."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from frcnn_cli.core.errors import FileFormatError, UsageError
from frcnn_cli.core.run_files import model_path
from frcnn_cli.detector.config import ModelConfig
from frcnn_cli.detector.header import MODEL_KEY
from frcnn_cli.detector.tensor_file import load_tensors, save_tensors


class StoredModel(NamedTuple):
    """The content of a model file. version: of the format, see `header.VERSION`."""

    path: Path
    version: int
    config: ModelConfig
    tensors: dict[str, Tensor]


def write_model(path: Path, config: ModelConfig, tensors: dict[str, Tensor]) -> None:
    """Writes a model atomically. Raises FrcnnError if the system refuses."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    save_tensors(tensors, path, MODEL_KEY, {"config": config.to_json()})


def read_model(path: Path) -> StoredModel:
    """Reads a model: the folder of a run, or a `.safetensors` file. Whether the tensors match the configuration is for
    the caller to check.

    Raises:
        FileFormatError: not a model of frcnn, damaged, or of a newer version. FrcnnError: the file cannot be read.
    """
    path = model_path(path)
    metadata, tensors = load_tensors(path, MODEL_KEY)
    version = metadata["version"]
    try:
        config = ModelConfig.from_json(metadata["config"])
        if version == 1 and config.ranks:
            raise ValueError(f"version {version}")
    except (KeyError, TypeError, ValueError, OverflowError, UsageError) as error:
        raise FileFormatError(
            f"{path} has a damaged description ({getattr(error, 'what', error)})", "Train it again"
        ) from None
    return StoredModel(path, version, config, tensors)
