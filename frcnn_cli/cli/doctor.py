"""frcnn doctor: facts about this machine and installation, for a bug report."""

from __future__ import annotations

import click

from frcnn_cli.cli.common import options
from frcnn_cli.cli.common.command import Command
from frcnn_cli.cli.common.console import Console
from frcnn_cli.system import facts


@click.command(cls=Command)
@options.as_json
@click.pass_obj
def command(console: Console, as_json: bool) -> None:
    """Print facts about this installation, for a bug report.

    It prints versions, devices, threads, memory and disk, plugins, and the kernels in use, with the reason if one is
    not the fastest.

    \b
    frcnn doctor
    frcnn doctor --json
    """
    parts = {
        "versions": facts.versions,
        "machine": facts.machine,
        "devices": facts.devices,
        "kernels": _kernels,
        "plugins": _plugins,
    }
    sections = {title: facts.collected(part()) for title, part in parts.items()}
    if as_json:
        console.json(sections)
        return
    width = max(len(name) for section in sections.values() for name in section)
    for title, section in sections.items():
        console.result(title)
        for name, value in section.items():
            console.result(f"  {name:{width}}  {value}")


def _kernels() -> facts.Facts:
    import torch

    from frcnn_cli.proposals.selective_search import grouping
    from frcnn_cli.roi.pooling import max_pool_cpu
    from frcnn_cli.roi.pooling.gpu import why_not_triton
    from frcnn_cli.system.jit import is_cached

    cached = all(is_cached(kernel) for kernel in (grouping.group, max_pool_cpu._pool))
    compiled = "compiled once" if cached else "compiled in every process: no folder for Numba's cache is writable"
    yield "selective search", f"Numba, {compiled}"
    yield "RoI pooling on the CPU", f"Numba, {compiled}"
    for i in range(torch.cuda.device_count()):
        reason = why_not_triton(torch.device("cuda", i))
        yield f"RoI pooling on cuda:{i}", f"torchvision's: {reason}" if reason else "Triton"
    yield "bfloat16 on the CPU", "native" if facts.has_bfloat16() else "emulated: about ten times as slow as float32"


def _plugins() -> facts.Facts:
    from frcnn_cli.proposals.registry import load_registry

    registry = load_registry()
    for name, loaded in sorted(registry.sources.items()):
        yield name, f"version {loaded.source.version}, of {loaded.origin}"
    for failure in registry.failures:
        yield failure.entry_point, f"failed to load ({failure.origin}): {failure.reason}"
