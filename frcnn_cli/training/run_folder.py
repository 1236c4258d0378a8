"""The folder of a run: which files it holds, and when a new run replaces an old one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from frcnn_cli.core.errors import FrcnnError, OutputExistsError, explain_os_error
from frcnn_cli.core.files import remove_temporaries, write_atomic
from frcnn_cli.core.run_files import BEST_FILE, CONFIG_FILE, LOG_FILE, MODEL_FILE, STATE_FILE
from frcnn_cli.system.locks import folder_lock


class RunFolder:
    """The folder of a run.

    | file | content |
    |---|---|
    | `model.safetensors` | the model for detection, after the last saved iteration |
    | `best.safetensors` | the model with the best validation mAP |
    | `state.safetensors` | the checkpoint from which training continues |
    | `log.jsonl` | losses and validation mAP |
    | `config.json` | recipe and settings |
    """

    def __init__(self, path: Path, owned: bool) -> None:
        """
        Args:
            owned: whether the folder already belongs to this run; otherwise a run in it is removed before the first
                file of this run is written, so that files of two runs are never mixed.
        """
        self.path = path
        self._owned = owned
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explain_os_error(error, path) from None

    def claim(self, config: dict[str, Any]) -> None:
        """Removes another run from the folder and writes `config.json`; nothing if the folder belongs to this run."""
        if self._owned:
            return
        self._owned = True
        try:
            for name in (STATE_FILE, MODEL_FILE, BEST_FILE, LOG_FILE):
                (self.path / name).unlink(missing_ok=True)
        except OSError as error:
            raise explain_os_error(error, self.path) from None
        write_atomic(self.path / CONFIG_FILE, (json.dumps(config, indent=2) + "\n").encode())


@contextmanager
def only_training_in(path: Path) -> Iterator[None]:
    """Refuses to train in the folder while another process does.

    Raises:
        FrcnnError: another process does, or the folder cannot be created.
    """
    with folder_lock(path) as alone:
        if not alone:
            raise FrcnnError(
                f"another training run is writing to {path}", "Wait until it has ended, or choose another output folder"
            )
        for name in (STATE_FILE, MODEL_FILE, BEST_FILE, CONFIG_FILE, LOG_FILE):
            remove_temporaries(path / name)
        yield


def check_free(path: Path) -> None:
    """Raises OutputExistsError if the folder holds a run."""
    if any((path / name).exists() for name in (STATE_FILE, MODEL_FILE)):
        fix = (
            "Add --resume to continue that run, --force to start again from scratch, or choose another -o (in Python:"
            " resume=True, force=True, output)"
        )
        raise OutputExistsError(path, fix)


def new_run_folder(data: str, backbone: str) -> Path:
    """runs/DATA-BACKBONE, or with -2, -3, ... if that folder holds a run."""
    name = Path(data.partition(":")[2] or "voc").resolve().name if ":" in data else data
    stem = re.sub(r"[^\w.-]+", "-", f"{name}-{backbone}".lower())
    number = 1
    while True:
        folder = Path("runs") / (stem if number == 1 else f"{stem}-{number}")
        try:
            check_free(folder)
            if folder.is_dir():
                with only_training_in(folder):
                    pass
        except FrcnnError:
            number += 1
        else:
            return folder
