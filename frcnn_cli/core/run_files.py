"""The names of the files in the folder of a run, and finding runs and models by path. Light to import."""

from __future__ import annotations

from pathlib import Path

from frcnn_cli.core.errors import FrcnnError

MODEL_FILE = "model.safetensors"  # the model for detection, after the last saved iteration
BEST_FILE = "best.safetensors"  # the model with the best validation mAP
STATE_FILE = "state.safetensors"  # the checkpoint from which training continues
LOG_FILE = "log.jsonl"  # losses and validation mAP
CONFIG_FILE = "config.json"  # recipe and settings


def model_path(path: Path) -> Path:
    """The model file of a path: the file itself, or that in the folder of a run.

    Raises:
        FrcnnError: a folder without a model.
    """
    if not path.is_dir():
        return path
    if not (path / MODEL_FILE).is_file():
        raise FrcnnError(
            f"{path} holds no {MODEL_FILE}", "Name a run that has reached its first checkpoint, or a model file"
        )
    return path / MODEL_FILE


def newest_run(name: str) -> Path | None:
    """The folder below ./runs with the newest file of this name; None if there is none."""
    found = [path for path in Path("runs").glob(f"*/{name}") if path.is_file()]
    return max(found, key=lambda path: path.stat().st_mtime).parent if found else None


def resumable_run() -> Path:
    """The newest run below ./runs that has a checkpoint. Raises FrcnnError if there is none."""
    folder = newest_run(STATE_FILE)
    if folder is None:
        raise FrcnnError("there is no run under ./runs to continue", "Name its folder with -o")
    return folder
