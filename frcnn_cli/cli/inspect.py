"""frcnn inspect: the content of any file of frcnn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from frcnn_cli.cli.common import options
from frcnn_cli.cli.common.command import Command
from frcnn_cli.cli.common.console import Console
from frcnn_cli.core.errors import FileFormatError
from frcnn_cli.core.run_files import CONFIG_FILE, LOG_FILE, STATE_FILE, model_path

_MAX_CONFIG = 8 << 20  # bytes
_UNCHECKED = "not possible: the file has no checksums (frcnn 0.3 and later write them into models and .h5 files)"


@click.command(cls=Command)
@click.argument("file", type=options.PATH)
@click.option("--verify", is_flag=True, help="Read the whole file and compare it with its checksums.")
@options.as_json
@click.pass_obj
def command(console: Console, file: Path, verify: bool, as_json: bool) -> None:
    """Print what FILE holds and how it was made.

    FILE is the .h5 of a stage, an unfinished .partial, a model, a checkpoint, a log, or the folder of a run.

    \b
    frcnn inspect props.h5
    frcnn inspect props.h5 --verify
    frcnn inspect runs/my --json
    frcnn inspect 'props-*.h5'
    """
    from frcnn_cli.store.stage import stage_paths

    path = model_path(file)
    if (several := stage_paths(path)) is not None:
        content = _stage(path, several, console if verify else None)
    else:
        content = _content(path, console if verify else None)
    content = {"file": str(file), **content}
    if verify:
        checked = content.pop("checked", False)
        if "damaged" not in content:
            content["verified"] = "the content matches its checksums" if checked else _UNCHECKED
    else:
        content.pop("checked", None)
    if as_json:
        console.json(content)
        return
    for name, value in content.items():
        console.result(f"{name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")


def _content(path: Path, verified_for: Console | None) -> dict[str, Any]:
    from frcnn_cli.core.files import check_regular

    with open(check_regular(path), "rb") as opened:
        start = opened.read(16)
    if path.name == STATE_FILE:
        return _state(path)
    if path.name == LOG_FILE:
        return _log(path)
    if path.suffix == ".safetensors":
        return _model(path)
    if start.startswith(b"frcnn-journal"):
        return _journal(path)
    return _stage(path, [path], verified_for)


def _stage(path: Path, files: Sequence[Path], verified_for: Console | None) -> dict[str, Any]:
    from frcnn_cli.store.stage import open_stage

    with open_stage(path) as file:
        if verified_for:
            file.verify(verified_for)
        counts = file.counts()
        per_image = {}
        if len(counts):
            per_image = {"min": int(counts.min()), "mean": round(float(counts.mean()), 1), "max": int(counts.max())}
        return {
            "megabytes": round(sum(one.stat().st_size for one in files) / 1e6, 3),
            "format": f"{file.format.name} {file.format_version}",
            "written by": f"frcnn {file.tool_version}",
            "images": len(file),
            "first images": [f"{i.key} {i.width}x{i.height}" for i in file.images[:3]],
            "rows": file.row_count,
            "rows per image": per_image,
            "columns": {name: f"{dtype} {list(shape)}" for name, (dtype, shape) in file.column_shapes.items()},
            "provenance": _short(file.provenance),
            "checked": file.has_checksums,
        }


def _journal(path: Path) -> dict[str, Any]:
    from frcnn_cli.store.journal import summary

    identity, finished, damaged = summary(path)
    return {
        "megabytes": round(path.stat().st_size / 1e6, 3),
        "format": f"unfinished {identity['format']}; run the same command again to continue",
        "images finished": finished,
        **({"damaged": "what follows is incomplete or damaged, and will be computed again"} if damaged else {}),
        "provenance": _short(identity["provenance"]),
        "checked": True,
    }


def _short(value: Any) -> Any:
    """A provenance in which a very long text (principal components) is replaced by its length."""
    if isinstance(value, dict):
        return {name: _short(inner) for name, inner in value.items()}
    return f"({len(value):,} characters)" if isinstance(value, str) and len(value) > 2000 else value


def _state(path: Path) -> dict[str, Any]:
    from dataclasses import asdict

    from frcnn_cli.detector.header import STATE_KEY, has_checksums, read_description
    from frcnn_cli.training.checkpoint import read_state

    state, _ = read_state(path.parent)
    return {
        "format": "training checkpoint",
        **{name: value for name, value in asdict(state).items() if name != "unlogged"},
        "checked": has_checksums(read_description(path, STATE_KEY)),
    }


def _log(path: Path) -> dict[str, Any]:
    from frcnn_cli.training.log import read_log

    lines = read_log(path)
    if not lines:
        raise FileFormatError(f"{path} is not a log of frcnn train", "Name a file that frcnn wrote")
    return {"format": "training log, JSON lines", "lines": len(lines), "last": lines[-1]}


def _model(path: Path) -> dict[str, Any]:
    from frcnn_cli.detector.detector import Detector
    from frcnn_cli.detector.header import MODEL_KEY, has_checksums, read_description

    detector = Detector.load(path, "cpu")
    config = detector.config
    transform, pooler = config.transform, detector.head.pooler
    sides = f"short side {transform.short_side}, long side at most {transform.long_side}"
    return {
        "format": "model",
        "backbone": config.network.backbone,
        "parameters": sum(p.numel() for p in detector.parameters()),
        "classes": list(config.classes),
        "image size": sides if transform.short_side else "their own size",
        "image mean, std": [list(transform.mean), list(transform.std)],
        "pooling": f"{pooler.grid[0]} x {pooler.grid[1]}, stride {', '.join(map(str, pooler.strides))}",
        "hidden layers": [*detector.head.widths()],
        **({"ranks": config.ranks} if config.ranks else {}),
        "proposals": config.proposals,
        **_training(path.parent),
        "model id": detector.model_id,
        "checked": has_checksums(read_description(path, MODEL_KEY)),
    }


def _training(folder: Path) -> dict[str, Any]:
    """The progress and the settings of the run that a model belongs to, if it belongs to one."""
    from frcnn_cli.detector.header import STATE_KEY, read_description
    from frcnn_cli.system.untrusted import read_json
    from frcnn_cli.training.log import read_log

    config, state = folder / CONFIG_FILE, folder / STATE_FILE
    if not (config.is_file() and state.is_file()):
        return {}
    begun = read_json(config, _MAX_CONFIG)
    if not isinstance(begun, dict) or not {"recipe", "data"} <= set(begun):
        raise FileFormatError(f"{config} is not the configuration of a run", "Remove it, or train again")
    lines = read_log(folder / LOG_FILE)
    trained = {**(lines[-1] if lines else {}), "iteration": read_description(state, STATE_KEY).get("iteration")}
    return {"trained": trained, "recipe": begun["recipe"], "data": begun["data"]}
