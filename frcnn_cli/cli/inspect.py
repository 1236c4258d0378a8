"""frcnn inspect: any of our files, in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from frcnn_cli.cli import options
from frcnn_cli.cli.command import Command
from frcnn_cli.cli.display import Display
from frcnn_cli.errors import FileFormatError, FrcnnError


@click.command(cls=Command)
@click.argument("file", type=options.PATH)
@options.as_json
@click.pass_obj
def command(display: Display, file: Path, as_json: bool) -> None:
    """Tell what FILE holds and how it was made.

    FILE is a stage's .h5, an unfinished .partial, a model, or a run's folder.

    \b
    frcnn inspect props.h5
    frcnn inspect runs/my
    """
    if file.is_dir() and not (file / "model.safetensors").is_file():
        raise FrcnnError(f"{file} is a folder without model.safetensors: no run", "Name a run's folder, or a file")
    with open(file if not file.is_dir() else file / "model.safetensors", "rb") as opened:
        start = opened.read(16)
    if file.name == "state.safetensors":
        told = _state(file)
    elif file.name == "log.jsonl":
        told = _log(file)
    elif file.is_dir() or file.suffix == ".safetensors":
        told = _model(file)
    elif start.startswith(b"frcnn-journal"):
        told = _journal(file)
    else:
        told = _stage(file)
    if as_json:
        display.json(told)
        return
    for name, value in told.items():
        display.result(f"{name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")


def _stage(path: Path) -> dict[str, Any]:
    from frcnn_cli.store.reader import StageFile

    with StageFile(path) as file:
        counts = file.counts()
        per_image = {"min": int(counts.min()), "mean": round(float(counts.mean()), 1), "max": int(counts.max())}
        return {
            "file": str(path),
            "megabytes": round(path.stat().st_size / 1e6, 3),
            "format": f"{file.format.name} {file.format_version}",
            "written by": f"frcnn {file.tool_version}",
            "images": len(file),
            "first images": [f"{i.key} {i.width}x{i.height}" for i in file.images[:3]],
            "rows": file.row_count,
            "rows an image": per_image,
            "columns": {name: f"{dtype} {list(shape)}" for name, (dtype, shape) in file.column_shapes.items()},
            "provenance": file.provenance,
        }


def _journal(path: Path) -> dict[str, Any]:
    from frcnn_cli.store.journal import summary

    identity, finished = summary(path)
    return {
        "file": str(path),
        "megabytes": round(path.stat().st_size / 1e6, 3),
        "format": f"unfinished {identity['format']}; the command that began it goes on from here",
        "images finished": finished,
        "provenance": identity["provenance"],
    }


def _state(path: Path) -> dict[str, Any]:
    from dataclasses import asdict

    from frcnn_cli.training.checkpoint import read_state

    state, _ = read_state(path.parent)
    return {"file": str(path), "format": "training checkpoint", **asdict(state)}


def _log(path: Path) -> dict[str, Any]:
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return {"file": str(path), "format": "training log, JSON lines", "lines": len(lines), "last": lines[-1]}
    except (ValueError, IndexError):
        raise FileFormatError(f"{path} is not a log of frcnn train", "Name a file that frcnn wrote") from None


def _model(path: Path) -> dict[str, Any]:
    from frcnn_cli.model import Detector

    detector = Detector.load(path)
    config = detector.config
    side = (
        "their own size"
        if config.transform.short_side == 0
        else (f"short side {config.transform.short_side}, long side at most {config.transform.long_side}")
    )
    return {
        "file": str(path),
        "format": "model",
        "backbone": config.network.backbone,
        "parameters": sum(p.numel() for p in detector.parameters()),
        "classes": list(config.classes),
        "image size": side,
        "image mean, std": [list(config.transform.mean), list(config.transform.std)],
        "pooling": f"{detector.head.grid} x {detector.head.grid}, stride {detector.head.stride}",
        "hidden layers": [*detector.head.widths],
        **({"ranks": config.ranks} if config.ranks else {}),
        "proposals": config.proposals,
        **_training(path),
        "model id": detector.model_id,
    }


def _training(path: Path) -> dict[str, Any]:
    """How the run that a model lies in has gone, if it lies in one."""
    folder = path if path.is_dir() else path.parent
    log, config = folder / "log.jsonl", folder / "config.json"
    if not (log.is_file() and config.is_file()):
        return {}
    began = json.loads(config.read_text())
    return {"trained": _log(log)["last"], "recipe": began["recipe"], "data": began["data"]}
