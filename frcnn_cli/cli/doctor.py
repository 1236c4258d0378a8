"""frcnn doctor: facts about this machine and installation, for a bug report."""

from __future__ import annotations

import click

from frcnn_cli.cli.common import options
from frcnn_cli.cli.common.command import Command
from frcnn_cli.cli.common.console import Console
from frcnn_cli.core.errors import FrcnnError
from frcnn_cli.system import facts


@click.command(cls=Command)
@click.option(
    "--gpu", is_flag=True, help="Instead, compare the results of the GPU with those of the CPU and of torchvision."
)
@options.as_json
@click.pass_obj
def command(console: Console, gpu: bool, as_json: bool) -> None:
    """Print facts about this installation, for a bug report.

    It prints versions, devices, threads, memory and disk, plugins, and the kernels in use, with the reason if one is
    not the fastest.

    \b
    frcnn doctor
    frcnn doctor --json
    frcnn doctor --gpu
    """
    if gpu:
        _check_gpu(console, as_json)
        return
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


def _check_gpu(console: Console, as_json: bool) -> None:
    """Prints a table of comparisons, and exits with 1 if one fails. Raises FrcnnError if the machine has no GPU."""
    from frcnn_cli.report.gpu_check import check_gpu
    from frcnn_cli.system.device import choose_device

    try:
        device = choose_device("cuda")
    except FrcnnError:
        raise FrcnnError("there is no GPU that PyTorch can use", "frcnn doctor prints what it finds") from None
    checks = check_gpu(device)
    about = facts.collected(facts.devices())
    if as_json:
        console.json({"devices": about, "checks": [check._asdict() for check in checks]})
    else:
        for name, value in about.items():
            console.result(f"{name}: {value}")
        rows = [(c.what, c.dtype, c.problem or "equal", f"{c.seconds:.2f}") for c in checks]
        console.table(("check", "dtype", "outcome", "seconds"), rows, left=3)
    failed = [check.what for check in checks if check.problem]
    if failed:
        error = FrcnnError(f"{len(failed)} of {len(checks)} checks failed", "Report this table, with frcnn doctor")
        click.echo(f"error: {error}", err=True)  # stdout has the one JSON value already
        click.get_current_context().exit(1)


def _kernels() -> facts.Facts:
    import torch

    from frcnn_cli.proposals.selective_search import grouping
    from frcnn_cli.roi.pooling import max_pool_cpu
    from frcnn_cli.roi.pooling.gpu import why_not_triton
    from frcnn_cli.roi.pooling.self_check import KERNELS, why_not_trusted
    from frcnn_cli.system.jit import is_cached

    cached = all(is_cached(kernel) for kernel in (grouping.group, max_pool_cpu._pool))
    compiled = "compiled once" if cached else "compiled in every process: no folder for Numba's cache is writable"
    yield "selective search", f"Numba, {compiled}"
    yield "RoI pooling on the CPU", f"Numba, {compiled}"
    for i in range(torch.cuda.device_count()):
        device = torch.device("cuda", i)
        for kernel in KERNELS:
            reason = why_not_triton(device) or why_not_trusted(kernel, device)
            yield f"RoI {kernel} pooling on cuda:{i}", f"torchvision's: {reason}" if reason else "Triton"
    yield "bfloat16 on the CPU", "native" if facts.has_bfloat16() else "emulated: about ten times as slow as float32"


def _plugins() -> facts.Facts:
    from frcnn_cli.proposals.registry import load_registry

    registry = load_registry()
    for name, loaded in sorted(registry.sources.items()):
        yield name, f"version {loaded.source.version}, of {loaded.origin}"
    for failure in registry.failures:
        yield failure.entry_point, f"failed to load ({failure.origin}): {failure.reason}"
