"""Tensors and a JSON description in one `.safetensors` file: written atomically, read without running code."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from frcnn_cli.core.checksum import checksum
from frcnn_cli.core.errors import FileFormatError, explain_os_error
from frcnn_cli.core.files import replacing
from frcnn_cli.detector.header import VERSION, checksum_of, has_checksums, read_description


def check_tensors(expected: dict[str, Tensor], found: dict[str, Tensor], path: Path) -> None:
    """Raises FileFormatError that names the first tensor that is missing, of another shape or dtype, unknown, or holds
    NaN or infinity."""
    for name, value in expected.items():
        if name not in found:
            raise FileFormatError(
                f"{path} lacks the tensor {name!r}", "Was it made with another backbone or other classes?"
            )
        if found[name].shape != value.shape or found[name].dtype != torch.float32:
            is_, should = (f"{t.dtype} {list(t.shape)}" for t in (found[name], value))
            raise FileFormatError(
                f"{path}: {name} is {is_}, not {should}", "Was it made with another backbone or other classes?"
            )
        if not bool(torch.isfinite(found[name]).all()):
            raise FileFormatError(
                f"{path}: {name} holds numbers that are not finite", "Train again with a lower learning rate"
            )
    extra = sorted(set(found) - set(expected))
    if extra:
        raise FileFormatError(f"{path} has an unknown tensor {extra[0]!r}", "Was it made with another backbone?")


def save_tensors(tensors: dict[str, Tensor], path: Path, key: str, description: dict[str, Any]) -> None:
    """Writes a safetensors file atomically: the tensors, and under `key` the description with their checksums and its
    own. Raises FrcnnError if the system refuses."""
    sums = {name: _checksum(value) for name, value in tensors.items()}
    description = {**description, "version": VERSION, "checksums": sums}
    description["checksum"] = checksum_of(description)
    metadata = {key: json.dumps(description, sort_keys=True)}
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata)
        except SafetensorError as error:
            reported = re.search(r"os error (\d+)", str(error))
            number = int(reported[1]) if reported else errno.EIO
            raise OSError(number, os.strerror(number)) from None


def load_tensors(path: Path, key: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The JSON description stored under `key`, and the tensors, of a safetensors file.

    Raises:
        FileFormatError: not a safetensors file, damaged, of a newer version, or without such a description.
        FrcnnError: the file cannot be read.
    """
    description = read_description(path, key)
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except OSError as error:
        raise explain_os_error(error, path) from None
    except (SafetensorError, ValueError) as error:
        raise FileFormatError(
            f"{path} is not a model file, or is damaged ({error})", "Name the folder of a run, or a model file"
        ) from None
    if has_checksums(description):
        sums = description.get("checksums")
        for name, value in tensors.items():
            if not isinstance(sums, dict) or sums.get(name) != _checksum(value):
                raise FileFormatError(
                    f"{path} is damaged ({name} does not match its checksum)", "Copy the file again, or train again"
                )
    return description, tensors


def _checksum(tensor: Tensor) -> int:
    return checksum(tensor.reshape(-1).view(torch.uint8).numpy())
