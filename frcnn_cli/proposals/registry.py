"""The available proposal sources: the built-in ones and those of installed plugins, all through the same hook.

A plugin that cannot be imported, or whose sources are malformed, becomes a `Failure` with the reason; the others work.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, is_dataclass
from functools import cache
from types import ModuleType
from typing import Any

import pluggy

from frcnn_cli.core.errors import FrcnnWarning, SourceError, UsageError
from frcnn_cli.core.options import did_you_mean
from frcnn_cli.proposals import sources as built_in
from frcnn_cli.proposals.hook import PROJECT, HookSpec
from frcnn_cli.proposals.source import ProposalSource
from frcnn_cli.system.plugins import installed_plugins, reason_of

DEFAULT_SOURCE = "selective-search"


@dataclass(frozen=True)
class Loaded:
    """A source and its origin: name and version of the distribution that provides it."""

    source: type[ProposalSource]
    origin: str


@dataclass(frozen=True)
class Failure:
    """A plugin that cannot be used, and why."""

    entry_point: str
    origin: str
    reason: str


@dataclass
class Registry:
    """Sources by name, and the plugins that failed to load."""

    sources: dict[str, Loaded] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)

    def get(self, name: str) -> type[ProposalSource]:
        """The class of a source.

        Raises:
            UsageError: there is no such source; names the known ones and the plugins that failed.
        """
        if name in self.sources:
            return self.sources[name].source
        broken = "".join(f"; plugin {f.entry_point} failed to load ({f.reason})" for f in self.failures)
        unknown = f"there is no proposal source {name!r}{did_you_mean(name, self.sources) or broken}"
        raise UsageError(unknown, f"The sources are: {', '.join(self.sources)}")

    def configured(self, name: str, options: Mapping[str, Any]) -> ProposalSource:
        """A source ready to run. Raises UsageError for an unknown name or wrong options."""
        return self.get(name).configured(options, self.build)

    def restored(self, described: Mapping[str, Any]) -> ProposalSource:
        """The source that `ProposalSource.described` recorded.

        Raises:
            SourceError: it is not installed, or in another version that cannot make the same boxes.
            UsageError: its options have changed.
        """
        options = described["options"]
        loaded = self.sources.get(described["name"])
        if loaded is not None and loaded.source.version != described["version"]:
            known = loaded.source
            options = known.restated(described["version"], options)
            if options is None:
                raise SourceError(
                    f"the boxes were made with {known.name} {described['version']}, but {known.version} is installed",
                    f"Install that version, or accept the difference with --source {known.name}",
                )
        try:
            source = self.configured(described["name"], options)
        except UsageError as error:
            if described["name"] in self.sources:
                raise
            raise SourceError(error.what, error.fix) from None
        if "content" in described and source.described().get("content") != described["content"]:
            changed = f"{described['options'].get('path', source.name)} has changed since the model was trained"
            warnings.warn(FrcnnWarning(f"the box file {changed}"), stacklevel=2)
        return source

    def build(self, kind: Any, value: Any) -> ProposalSource:
        """The value of an option whose type is a proposal source: a name, or a recorded description."""
        if not (isinstance(kind, type) and issubclass(kind, ProposalSource)):
            raise TypeError(f"options of type {kind} are not supported")
        if isinstance(value, kind):
            return value
        return self.configured(value, {}) if isinstance(value, str) else self.restored(value)

    def add_plugin(self, manager: pluggy.PluginManager, plugin: ModuleType, name: str, origin: str) -> None:
        """Registers one plugin with pluggy and adds the sources that its hook returns; never raises."""
        try:
            manager.register(plugin, name=name)
            if not manager.get_hookcallers(plugin):
                raise TypeError(
                    "no function frcnn_proposal_sources decorated with @hookimpl; name a module that has it"
                )
            others = [other for other in manager.get_plugins() if other is not plugin]
            answers = manager.subset_hook_caller("frcnn_proposal_sources", others)()
            for answer in answers:
                if not isinstance(answer, (list, tuple)):
                    raise TypeError(f"frcnn_proposal_sources must return a list of classes, not {answer!r}")
                for source in answer:
                    self._add(source, origin)
        except (Exception, SystemExit) as error:
            self.failures.append(Failure(name, origin, reason_of(error)))

    def _add(self, source: Any, origin: str) -> None:
        if not (isinstance(source, type) and issubclass(source, ProposalSource)):
            raise TypeError(f"{source!r} is not a subclass of ProposalSource")
        if inspect.isabstract(source) or not is_dataclass(source):
            raise TypeError(f"{source.__name__} must be a frozen dataclass with a propose method")
        if any(isinstance(value, Field) for value in vars(source).values()):  # the decorator replaces them
            raise TypeError(f"{source.__name__} has options, but not the decorator @dataclass(frozen=True)")
        for attribute in ("name", "version"):
            if not isinstance(getattr(source, attribute, None), str):
                value = getattr(source, attribute, None)
                raise TypeError(f"{attribute} of {source.__name__} must be a string, not {value!r}")
        if source.name in self.sources:
            raise ValueError(f"the name {source.name!r} is taken by {self.sources[source.name].origin}")
        source.options()  # raises, with its name, for a field that was not declared with option()
        self.sources[source.name] = Loaded(source, origin)


@cache
def load_registry() -> Registry:
    """The sources of this installation; loaded once per process."""
    from frcnn_cli import __version__

    registry = Registry()
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(HookSpec)
    registry.add_plugin(manager, built_in, "built-in", f"frcnn-cli {__version__}")
    for plugin in installed_plugins(PROJECT):
        if plugin.module is None:
            registry.failures.append(Failure(plugin.name, plugin.origin, plugin.reason))
        else:
            registry.add_plugin(manager, plugin.module, plugin.name, plugin.origin)
    return registry


def get_source(name: str = DEFAULT_SOURCE, **options: Any) -> ProposalSource:
    """A proposal source by name, for example `get_source("selective-search", preset="quality", k=(50, 100))`.

    `frcnn plugins` lists the names, `frcnn plugins NAME` the options of one.

    Raises:
        UsageError: an unknown source or option, or a value of the wrong type or out of bounds.
    """
    return load_registry().configured(name, options)
