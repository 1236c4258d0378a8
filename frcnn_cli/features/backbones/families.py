"""Backbones by name: the built-in ones, and those of families, which plugins add (see `features.hook`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pluggy

from frcnn_cli.core.errors import UsageError
from frcnn_cli.core.options import did_you_mean
from frcnn_cli.features.backbones import timm_family
from frcnn_cli.features.backbones.family import GROUP, PROJECT, BackboneFamily, HookSpec
from frcnn_cli.features.backbones.spec import BackboneSpec
from frcnn_cli.system.plugins import installed_plugins, reason_of


@dataclass
class Families:
    """Families by name, each with its origin, and the plugins that failed to load, with the reason."""

    found: dict[str, tuple[BackboneFamily, str]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def spec(self, name: str) -> BackboneSpec:
        """How the network FAMILY:NAME is built.

        Raises:
            UsageError: no such family or network. FrcnnError: a package that it needs is not installed.
        """
        family, _, network = name.partition(":")
        if family not in self.found:
            broken = "".join(f"; plugin {plugin} failed to load ({reason})" for plugin, reason in self.failed.items())
            unknown = f"there are no backbones {family}:...{did_you_mean(family, self.found) or broken}"
            raise UsageError(unknown, f"The families are: {', '.join(self.found)}")
        return self.found[family][0].spec(network)

    def add(self, manager: pluggy.PluginManager, plugin: Any, name: str, origin: str) -> None:
        """Adds the families of a plugin; never raises."""
        try:
            manager.register(plugin, name=name)
            others = [other for other in manager.get_plugins() if other is not plugin]
            answers = manager.subset_hook_caller("frcnn_backbones", others)()
            if not answers:
                raise TypeError("no function frcnn_backbones decorated with @hookimpl; name a module that has it")
            for answer in answers:
                for family in answer:
                    if not isinstance(family, BackboneFamily) or not isinstance(getattr(family, "name", None), str):
                        raise TypeError(f"{family!r} is not a BackboneFamily with a name")
                    if family.name in self.found:
                        raise ValueError(f"the name {family.name!r} is taken by {self.found[family.name][1]}")
                    self.found[family.name] = family, origin
        except (Exception, SystemExit) as error:
            self.failed[name] = reason_of(error)


@cache
def load_families() -> Families:
    """The families of this installation; loaded once per process."""
    from frcnn_cli import __version__

    families = Families()
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(HookSpec)
    families.add(manager, timm_family, "built-in", f"frcnn-cli {__version__}")
    for plugin in installed_plugins(GROUP):
        if plugin.module is None:
            families.failed[plugin.name] = plugin.reason
        else:
            families.add(manager, plugin.module, plugin.name, plugin.origin)
    return families
