"""Parsing a file of an untrusted kind in a process of its own, whose time and memory are limited.

HDF5's library can loop for ever, or crash, on damage to a structure that has no checksum.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import frcnn_cli
from frcnn_cli.core.errors import FileFormatError, FrcnnError

_CPU_SECONDS = 4  # of processor time, so that a busy machine does not change the outcome; starting takes 0.5
_CPU_SECONDS_PER_MB = 0.1  # measured on boxes of 100,000 images: 0.02
_WALL_SECONDS_PER_CPU_SECOND = 30
_MEMORY = 8 << 30
_PARSED, _REFUSED = b"frcnn parsed\n", b"frcnn refused\n"  # the beginning of an answer


def parse_in_child(module: str, path: Path) -> bytes:
    """What `python -m MODULE PATH` answers. The module calls `answer` and does nothing else.

    Raises:
        FileFormatError: the process raised one, ran out of time or memory, or crashed.
        RuntimeError: the process could not do its work for another reason.
    """
    seconds = _cpu_seconds(path)
    # -P: without the current folder, in which a file of the user's could have the name of a module.
    command = [sys.executable, "-P", "-m", module, str(path), str(seconds)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_WALL_SECONDS_PER_CPU_SECOND * seconds,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(_search_path()), "OPENBLAS_NUM_THREADS": "1"},
        )
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode < 0:  # ended by a signal
        raise FileFormatError(
            f"{path} is damaged (reading it crashed, or took more than {seconds} s)",
            "Write it again with the program that wrote it",
        )
    for mark in (_PARSED, _REFUSED):
        if done.stdout.startswith(mark):
            content = done.stdout[len(mark) :]
            if mark == _PARSED:
                return content
            raise FileFormatError(*json.loads(content))
    reason = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    raise RuntimeError(f"the process that reads {path} failed: {reason}")


def _search_path() -> list[str]:
    """Where the child finds this package, and what the environment states."""
    given = os.environ.get("PYTHONPATH", "")
    return [str(Path(frcnn_cli.__file__).parent.parent), *([given] if given else [])]


def answer(parse: Callable[[Path], bytes]) -> None:
    """Parses the file that the command line names, within the limits, and writes the outcome to stdout."""
    path = Path(sys.argv[1])
    _limit_process(int(sys.argv[2]))
    try:
        outcome = _PARSED + parse(path)
    except FrcnnError as error:
        outcome = _REFUSED + json.dumps([error.what, error.fix]).encode()
    except MemoryError:
        what = f"{path} takes more than {_MEMORY >> 30} GB of memory"
        outcome = _REFUSED + json.dumps([what, "Write it again with the program that wrote it"]).encode()
    sys.stdout.buffer.write(outcome)


def _cpu_seconds(path: Path) -> int:
    return _CPU_SECONDS + int(_CPU_SECONDS_PER_MB * path.stat().st_size / 1e6)


def _limit_process(cpu_seconds: int) -> None:
    """Sets the limits that the system has and allows."""
    with suppress(ImportError):
        import resource

        for limit, value in ((resource.RLIMIT_CPU, cpu_seconds), (resource.RLIMIT_AS, _MEMORY)):
            with suppress(ValueError, OSError):  # a lower one is set already
                resource.setrlimit(limit, (value, value))
