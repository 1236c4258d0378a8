"""Tensors and a JSON description in one `.safetensors` file: written whole or not at all, read without running code."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from frcnn_cli.errors import FileFormatError, explain_os_error


def check_tensors(wanted: dict[str, Tensor], have: dict[str, Tensor], path: Path) -> None:
    """Raises FileFormatError that names the first tensor that is missing, misshapen or too many."""
    for name, value in wanted.items():
        if name not in have:
            raise FileFormatError(f"{path} lacks the tensor {name!r}", "Is it of another backbone or other classes?")
        if have[name].shape != value.shape or have[name].dtype != torch.float32:
            is_, should = (f"{t.dtype} {list(t.shape)}" for t in (have[name], value))
            raise FileFormatError(
                f"{path}: {name} is {is_}, not {should}", "Is it of another backbone or other classes?"
            )
    extra = sorted(set(have) - set(wanted))
    if extra:
        raise FileFormatError(f"{path} has an unknown tensor {extra[0]!r}", "Is it of another backbone?")


def save_safely(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Writes a safetensors file under another name and renames it into place."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, temporary, metadata)
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.umask(mask := os.umask(0))
        temporary.chmod(0o666 & ~mask)  # safetensors makes files that nobody else can read
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise explain_os_error(error, path) from None
    except SafetensorError as error:
        temporary.unlink(missing_ok=True)
        number = 28 if "os error 28" in str(error).lower() or "no space" in str(error).lower() else 5
        raise explain_os_error(OSError(number, str(error)), path) from None


def load_safely(path: Path, key: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The JSON kept under `key`, and the tensors, of a safetensors file."""
    try:
        with open(path, "rb") as raw:
            raw.read(1)
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(key)
            description = json.loads(text) if text else None
            if not isinstance(description, dict):
                raise FileFormatError(f"{path} is not a file of frcnn's", "Name a file that frcnn train wrote")
            return description, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except OSError as error:
        raise explain_os_error(error, path) from None
    except (SafetensorError, ValueError) as error:
        raise FileFormatError(
            f"{path} is not a model file, or damaged ({error})", "Name a run's folder or a model"
        ) from None
