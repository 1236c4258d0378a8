"""Parsing a file of an untrusted kind in a process of its own, whose time and memory are limited.

HDF5's library can loop for ever, or crash, on damage to a structure that has no checksum.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from frcnn_cli.core.errors import FileFormatError, FrcnnError

_CPU_SECONDS = 4  # of processor time, so that a busy machine does not change the outcome; starting takes 0.5
_CPU_SECONDS_PER_MB = 0.1  # measured on boxes of 100,000 images: 0.02
_WALL_SECONDS_PER_CPU_SECOND = 30
_MEMORY = 8 << 30
_PARSED, _REFUSED = b"+", b"-"  # the first byte of an answer


def parse_in_child(module: str, path: Path) -> bytes:
    """What `python -m MODULE PATH` answers. The module calls `answer` and does nothing else.

    Raises:
        FileFormatError: the process raised one, ran out of time or memory, or crashed.
    """
    command = [sys.executable, "-m", module, str(path)]
    limit = _WALL_SECONDS_PER_CPU_SECOND * _cpu_seconds(path)
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit)
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode:
        raise FileFormatError(
            f"{path} is damaged (reading it crashed, or took more than {_cpu_seconds(path)} s or {_MEMORY >> 30} GB)",
            "Write it again with the program that wrote it",
        )
    if done.stdout[:1] == _REFUSED:
        what, fix = json.loads(done.stdout[1:])
        raise FileFormatError(what, fix)
    return done.stdout[1:]


def answer(parse: Callable[[Path], bytes]) -> None:
    """Parses the file that the command line names, within the limits, and writes the outcome to stdout."""
    path = Path(sys.argv[1])
    _limit_process(_cpu_seconds(path))
    try:
        outcome = _PARSED + parse(path)
    except FrcnnError as error:
        outcome = _REFUSED + json.dumps([error.what, error.fix]).encode()
    sys.stdout.buffer.write(outcome)


def _cpu_seconds(path: Path) -> int:
    return _CPU_SECONDS + int(_CPU_SECONDS_PER_MB * path.stat().st_size / 1e6)


def _limit_process(cpu_seconds: int) -> None:
    with suppress(ImportError, ValueError, OSError):  # Windows has no such limits; a lower one may be set already
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
