"""Families of backbones, and the hook through which plugins add them; see `features.hook`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import pluggy

from frcnn_cli.features.backbones.spec import BackboneSpec

PROJECT = "frcnn"
GROUP = "frcnn_backbones"  # of entry points

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class BackboneFamily(ABC):
    """Networks whose names begin with the name of the family and a colon."""

    name: ClassVar[str]

    @abstractmethod
    def spec(self, network: str) -> BackboneSpec:
        """How a network is built. Must be quick, and must not import torch's heavy parts.

        Args:
            network: its name, without that of the family.

        Raises:
            UsageError: there is no such network. FrcnnError: a package that it needs is not installed.
        """

    def names(self) -> list[str]:
        """Names of networks, for messages and lists; not necessarily all."""
        return []


class HookSpec:
    """The hooks that plugins implement."""

    @hookspec
    def frcnn_backbones(self) -> list[BackboneFamily]:  # type: ignore[empty-body]
        """The families of backbones of this plugin."""
