"""frcnn plugins: the available proposal sources and families of backbones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from frcnn_cli.cli.common import options
from frcnn_cli.cli.common.command import Command
from frcnn_cli.cli.common.console import Console

if TYPE_CHECKING:
    from frcnn_cli.features.backbones.families import Families


@click.command(cls=Command)
@click.argument("name", required=False)
@options.as_json
@click.pass_obj
def command(console: Console, name: str | None, as_json: bool) -> None:
    """List proposal sources and families of backbones, or show the options of a source.

    Plugins that could not be loaded are listed with the reason.

    \b
    frcnn plugins
    frcnn plugins opencv-selective-search
    frcnn plugins --json
    """
    from frcnn_cli.proposals.registry import DEFAULT_SOURCE, load_registry

    registry = load_registry()
    families = None if name is not None else _families()
    if name is not None:
        source = registry.get(name)
        described = _described(source, registry.sources[name].origin)
        if as_json:
            console.json(described)
            return
        console.result(f"{name} {source.version}, from {described['from']}\n{described['help']}")
        rows = [
            (f"--set {opt.name}={opt.type_name}", opt.default_text, opt.bounds_text, opt.help)
            for opt in source.options()
        ]
        console.table(("option", "default", "bounds", "meaning"), rows, left=4)
        return
    assert families is not None
    if as_json:
        console.json(
            {
                "sources": [_described(entry.source, entry.origin) for entry in registry.sources.values()],
                "backbones": [
                    {"name": family, "from": origin, "help": _first(found), "examples": found.names()}
                    for family, (found, origin) in families.found.items()
                ],
                "failed": [failure.__dict__ for failure in registry.failures]
                + [{"entry_point": plugin, "reason": reason} for plugin, reason in families.failed.items()],
            }
        )
        return
    console.table(
        ("source", "version", "from", ""),
        [
            (source_name, entry.source.version, entry.origin, "default" if source_name == DEFAULT_SOURCE else "")
            for source_name, entry in registry.sources.items()
        ],
    )
    console.table(
        ("backbones", "from", "meaning"),
        [(f"{family}:NAME", origin, _first(found)) for family, (found, origin) in families.found.items()],
        left=3,
    )
    for plugin, reason in families.failed.items():
        console.warn(f"plugin {plugin} failed to load: {reason}")
    for failure in registry.failures:
        console.warn(f"plugin {failure.entry_point} ({failure.origin}) failed to load: {failure.reason}")


def _described(source: Any, origin: str) -> dict[str, Any]:
    from frcnn_cli.core.options import json_value

    return {
        "name": source.name,
        "version": source.version,
        "from": origin,
        "help": _first(source),
        "options": [
            {
                "name": opt.name,
                "type": opt.type_name,
                "required": opt.default_text == "required",
                "default": None if opt.default_text == "required" else json_value(opt.default),
                "minimum": opt.minimum,
                "maximum": opt.maximum,
                "help": opt.help,
            }
            for opt in source.options()
        ],
    }


def _families() -> Families:
    from frcnn_cli.features.backbones.families import load_families

    return load_families()


def _first(documented: Any) -> str:
    """The first paragraph of a docstring."""
    return " ".join((documented.__doc__ or "").strip().split("\n\n")[0].split())
