"""The JSON description in a `.safetensors` file, read without torch and without the tensors."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frcnn_cli.core.errors import FileFormatError, explain_os_error
from frcnn_cli.core.files import check_regular

MODEL_KEY = "frcnn_model"  # of models
STATE_KEY = "frcnn_run"  # of checkpoints
# Of models and checkpoints. Models of version 1: fc6 read pooled RoIs as [C, S, S]; 2: recorded only the name of the
# backbone. 3 had no checksums.
VERSION = 4
_CHECKED_SINCE = 4
_MAX_TENSORS = 10_000  # ResNet-152 has 932, and a checkpoint three times as many
_MAX_DESCRIPTION = 8 << 20  # characters


def read_description(path: Path, key: str) -> dict[str, Any]:
    """The description stored under `key`; its `version` is one of those that can be read.

    Raises:
        FileFormatError: not a safetensors file, damaged, of a newer version, or without such a description.
        FrcnnError: the file cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with open(check_regular(path, FileFormatError), "rb") as raw:
            raw.read(1)
        with safe_open(path, "np") as file:
            metadata, tensors = file.metadata() or {}, len(file.keys())
        text = metadata.get(key)
        if tensors > _MAX_TENSORS or len(text or "") > _MAX_DESCRIPTION:
            raise ValueError(f"{tensors:,} tensors and a description of {len(text or ''):,} characters")
        description = json.loads(text) if text else None
    except OSError as error:
        raise explain_os_error(error, path) from None
    except (SafetensorError, ValueError, RecursionError) as error:
        raise FileFormatError(
            f"{path} is not a model file, or is damaged ({error})", "Name the folder of a run, or a model file"
        ) from None
    if not isinstance(description, dict):
        raise FileFormatError(f"{path} is not a file of frcnn", "Name a file that frcnn train wrote")
    _check_version(description, path)
    if has_checksums(description) and description.get("checksum") != checksum_of(description):
        raise FileFormatError(
            f"{path} is damaged (its description does not match its checksum)", "Copy the file again, or train again"
        )
    return description


def has_checksums(description: Mapping[str, Any]) -> bool:
    """Whether damage to the tensors of this file would be noticed."""
    return int(description["version"]) >= _CHECKED_SINCE


def checksum_of(description: Mapping[str, Any]) -> int:
    """The checksum of everything in a description except its entry `checksum`, where it is recorded."""
    rest = {name: value for name, value in description.items() if name != "checksum"}
    return zlib.crc32(json.dumps(rest, sort_keys=True).encode())


def _check_version(description: Mapping[str, Any], path: Path) -> None:
    version = description.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise FileFormatError(f"{path} has a damaged description (version {repr(version)[:20]})", "Train it again")
    if version > VERSION:
        raise FileFormatError(f"{path} was written by a newer frcnn", "Upgrade frcnn-cli")
