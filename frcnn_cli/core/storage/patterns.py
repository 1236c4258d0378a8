"""Patterns that name many files or URLs: {000..099}, {a,b} and *."""

from __future__ import annotations

import re
from collections.abc import Iterator
from glob import glob
from itertools import product
from math import prod
from pathlib import Path

from frcnn_cli.core.errors import DataError
from frcnn_cli.core.storage.url import file_system, is_url, readable

_MAX_FILES = 1_000_000


def names_files(text: str) -> bool:
    """Whether a text is a URL, an existing file, or a pattern."""
    return is_url(text) or Path(text).is_file() or "*" in text or re.search(r"\{.*\}", text) is not None


def files_of(pattern: str) -> list[str]:
    """The paths and URLs that a pattern names.

    Raises:
        DataError: none, or one that does not exist.
    """
    found: list[str] = []
    for text in _braces(pattern):
        if "*" not in text:
            if not is_url(text) and not Path(text).exists():
                raise DataError(f"{text} does not exist", "Check the path and the numbers in {}")
            if not is_url(text) and Path(text).is_dir():
                raise DataError(f"{text} is a folder", f"Name the files in it: {text.rstrip('/')}/*")
            found.append(text)
        elif is_url(text):
            with readable(text):
                protocol = text.partition("://")[0]
                paths = map(str, file_system(text).glob(text))
                found += sorted(path if is_url(path) else f"{protocol}://{path}" for path in paths)
        else:
            found += sorted(glob(text))  # noqa: PTH207 (absolute too)
    if not found:
        raise DataError(f"no file matches {pattern}", "Check the pattern")
    return list(dict.fromkeys(found))


def _braces(pattern: str) -> Iterator[str]:
    """The texts that {000..099} and {a,b} stand for."""
    parts = re.split(r"\{([^{}]*)\}", pattern)
    choices = [[part] if i % 2 == 0 else _choices(part, pattern) for i, part in enumerate(parts)]
    if prod(map(len, choices)) > _MAX_FILES:
        raise DataError(f"{pattern} stands for more than {_MAX_FILES:,} files", "Name fewer of them")
    return map("".join, product(*choices))


def _choices(inside: str, pattern: str) -> list[str]:
    numbers = re.fullmatch(r"(\d{1,9})\.\.(\d{1,9})", inside)
    if numbers is None:
        return inside.split(",")
    first, last = int(numbers[1]), int(numbers[2])
    if not first <= last < first + _MAX_FILES:
        raise DataError(f"{{{inside}}} in {pattern} is no range", "Write the smaller number first")
    return [f"{number:0{len(numbers[1])}d}" for number in range(first, last + 1)]
