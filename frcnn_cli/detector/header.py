"""The JSON description in a `.safetensors` file, read without torch and without the tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frcnn_cli.core.errors import FileFormatError, explain_os_error
from frcnn_cli.core.files import check_regular

MODEL_KEY = "frcnn_model"  # of models
STATE_KEY = "frcnn_run"  # of checkpoints


def read_description(path: Path, key: str) -> dict[str, Any]:
    """The description stored under `key`.

    Raises:
        FileFormatError: not a safetensors file, damaged, or without such a description.
        FrcnnError: the file cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with open(check_regular(path, FileFormatError), "rb") as raw:
            raw.read(1)
        with safe_open(path, "np") as file:
            text = (file.metadata() or {}).get(key)
        description = json.loads(text) if text else None
    except OSError as error:
        raise explain_os_error(error, path) from None
    except (SafetensorError, ValueError, RecursionError) as error:
        raise FileFormatError(
            f"{path} is not a model file, or damaged ({error})", "Name the folder of a run, or a model file"
        ) from None
    if not isinstance(description, dict):
        raise FileFormatError(f"{path} is not a file of frcnn", "Name a file that frcnn train wrote")
    return description


def version_of(description: Mapping[str, Any], newest: int, path: Path) -> int:
    """The version of a file, from its description.

    Raises:
        FileFormatError: it is not a whole number above 0, or larger than the `newest` that can be read.
    """
    version = description.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise FileFormatError(f"{path} has a damaged description (version {repr(version)[:20]})", "Train it again")
    if version > newest:
        raise FileFormatError(f"{path} was written by a newer frcnn", "Upgrade frcnn-cli")
    return version
