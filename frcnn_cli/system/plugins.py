"""Plugins of other packages, found by their entry points; one that cannot be imported does not stop the others."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import NamedTuple


class Plugin(NamedTuple):
    """One entry point.

    name: of the entry point. origin: name and version of the distribution. module: what it names, or None with the
    reason why it could not be loaded.
    """

    name: str
    origin: str
    module: ModuleType | None
    reason: str = ""


def installed_plugins(group: str) -> Iterator[Plugin]:
    """The entry points of a group, by name."""
    for entry_point in sorted(entry_points(group=group), key=lambda e: e.name):
        origin = _origin(entry_point)
        try:
            yield Plugin(entry_point.name, origin, entry_point.load())
        except (Exception, SystemExit) as error:
            yield Plugin(entry_point.name, origin, None, reason_of(error))


def reason_of(error: BaseException) -> str:
    """An error of a plugin in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _origin(entry_point: EntryPoint) -> str:
    if entry_point.dist is None:
        return entry_point.value
    return f"{entry_point.dist.name} {entry_point.dist.version}"
