"""Random bit flips and random damage of every kind of file, read in this process.

A flip in a file with checksums must be noticed or change nothing. Any damage must end in a value or in one line (an
`FrcnnError` without a line break), within seconds and in bounded memory.
"""

from __future__ import annotations

import faulthandler
import gc
import random
import resource
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from frcnn_cli.core.errors import FrcnnError
from tests.soak.files import Kind
from tests.soak.table import Row, Table

SECONDS = (
    120  # until a case counts as hanging; a child process may take 4 s of processor time, longer if the machine is busy
)
MEGABYTES = 1500  # by which a case may raise the memory of this process


def flip(content: bytearray, generator: random.Random) -> None:
    """Changes one bit."""
    content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)


def truncate(content: bytearray, generator: random.Random) -> None:
    del content[generator.randrange(len(content)) :]


def overwrite(content: bytearray, generator: random.Random) -> None:
    """Random bytes in place of up to 64."""
    at, count = generator.randrange(len(content)), generator.randrange(1, 65)
    content[at : at + count] = generator.randbytes(min(count, len(content) - at))


def clear(content: bytearray, generator: random.Random) -> None:
    """Zeros, or ones, in place of a block."""
    at, count = generator.randrange(len(content)), generator.choice((1, 4, 8, 512, 4096))
    end = min(at + count, len(content))
    content[at:end] = generator.choice((b"\0", b"\xff")) * (end - at)


def swap(content: bytearray, generator: random.Random) -> None:
    """Two blocks of equal size change places."""
    size = generator.choice((4, 16, 512))
    if len(content) < 2 * size:
        return
    a, b = sorted(generator.sample(range(len(content) // size), 2))
    first, second = slice(a * size, a * size + size), slice(b * size, b * size + size)
    content[first], content[second] = content[second], content[first]


def insert(content: bytearray, generator: random.Random) -> None:
    at = generator.randrange(len(content))
    content[at:at] = generator.randbytes(generator.randrange(1, 33))


def repeat(content: bytearray, generator: random.Random) -> None:
    """A part appears once more, as after a failed copy."""
    at = generator.randrange(len(content))
    content[at:at] = content[at : at + generator.randrange(1, 2049)]


def number(content: bytearray, generator: random.Random) -> None:
    """A digit becomes a long number, as text formats may hold it."""
    digits = [i for i, byte in enumerate(content) if 48 <= byte <= 57]
    if digits:
        at = generator.choice(digits)
        content[at : at + 1] = generator.choice((b"-1", b"99999999999999999999", b"1e999", b"NaN", b"0.0", b"[]"))


DAMAGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    *(flip, truncate, overwrite, clear, swap, insert, repeat, number),
)


def flips(kinds: list[Kind], generator: random.Random, until: float, table: Table) -> None:
    """Changes one bit of a randomly chosen file, again and again, until `time.monotonic()` reaches `until`."""
    checked = [kind for kind in kinds if kind.checked]
    _cases(checked, lambda: flip, generator, until, table, "bit flips: ", several=False)


def damages(kinds: list[Kind], generator: random.Random, until: float, table: Table) -> None:
    """Damages a randomly chosen file in one or more places, again and again; files that a child process reads come less
    often."""
    quick = [kind for kind in kinds if not kind.in_child]
    slow = [kind for kind in kinds if kind.in_child]
    _cases(quick * 10 + slow, lambda: generator.choice(DAMAGES), generator, until, table, "damage: ", several=True)


def _cases(
    kinds: list[Kind],
    choose: Callable[[], Callable[[bytearray, random.Random], None]],
    generator: random.Random,
    until: float,
    table: Table,
    title: str,
    several: bool,
) -> None:
    wholes = {kind.name: _content_of(kind) for kind in kinds}
    with warnings.catch_warnings(), _timer():
        warnings.simplefilter("ignore")
        while time.monotonic() < until:
            kind = generator.choice(kinds)
            files, expected = wholes[kind.name]
            path = generator.choice(list(files))
            content = bytearray(files[path])
            choose()(content, generator)
            while several and content and generator.random() < 0.5:
                choose()(content, generator)
            try:
                path.write_bytes(content)
                _case(kind, expected, bytes(content), table[title + kind.name])
            finally:
                for other, whole in files.items():
                    other.write_bytes(whole)


def _content_of(kind: Kind) -> tuple[dict[Path, bytes], Any]:
    """The files of a kind (a journal may have two) with their content, and what a reader gets from them."""
    files = [path for path in (kind.path, kind.path.with_name(kind.path.name + "-rows")) if path.exists()]
    contents = {path: path.read_bytes() for path in files}
    expected = kind.read(kind.path)
    for path, content in contents.items():
        path.write_bytes(content)  # reading a journal can change it
    return contents, expected


def _case(kind: Kind, expected: Any, content: bytes, row: Row) -> None:
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    problem, refused = "", False
    signal.alarm(SECONDS)
    faulthandler.dump_traceback_later(2 * SECONDS, exit=True)  # a library in C does not let the alarm through
    try:
        found = kind.read(kind.path)
        if kind.checked and not _is_part(found, expected):
            problem = "the change was not noticed"
    except FrcnnError as error:
        refused = True
        if "\n" in str(error):
            problem = f"not one line: {error}"
    except (Exception, MemoryError):
        problem = traceback.format_exc()
    finally:
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()
    row.add(refused, time.perf_counter() - started)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    if grown > MEGABYTES:
        problem = problem or f"took {grown:.0f} MB"
    if problem:
        kept = Path(tempfile.gettempdir()) / f"frcnn-soak-failure-{len(row.failures)}-{kind.path.name}"
        kept.write_bytes(content)
        row.failures.append(f"{kind.name}: {problem} ({kept})")
    if row.cases % 200 == 0:
        gc.collect()


def _is_part(found: Any, expected: Any) -> bool:
    """Whether the result equals the expected one or, for a journal, holds some of its images, each unchanged."""
    if isinstance(found, dict) and isinstance(expected, dict):
        return all(key in expected and expected[key] == value for key, value in found.items())
    return bool(found == expected)


class Hangs(Exception):
    """A case took too long."""


@contextmanager
def _timer() -> Iterator[None]:
    def ring(number: int, frame: Any) -> None:
        raise Hangs(f"a case took more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, ring)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)
