"""frcnn doctor: what this machine and installation have, for a bug report."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import click

from frcnn_cli.cli import options
from frcnn_cli.cli.command import Command
from frcnn_cli.cli.display import Display
from frcnn_cli.memory import system_memory

_PACKAGES = (
    *("frcnn-cli", "torch", "torchvision", "triton", "numba", "llvmlite", "numpy", "scipy", "opencv-contrib-python"),
    *("h5py", "pillow", "safetensors", "click", "rich", "pluggy", "matplotlib", "defusedxml"),
)
_FLAGS = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")

Facts = Iterator[tuple[str, str]]


@click.command(cls=Command)
@options.as_json
@click.pass_obj
def command(display: Display, as_json: bool) -> None:
    """Tell what this installation has, for a bug report.

    Versions, devices, threads, memory and disk, plugins, and which kernels run; one that is not the fastest says why.

    \b
    frcnn doctor
    frcnn doctor --json
    """
    parts = {
        "versions": _versions,
        "machine": _machine,
        "devices": _devices,
        "kernels": _kernels,
        "plugins": _plugins,
    }
    sections = {title: dict(_told(facts())) for title, facts in parts.items()}
    if as_json:
        display.json(sections)
        return
    width = max(len(name) for facts in sections.values() for name in facts)
    for title, facts in sections.items():
        display.result(f"{title}")
        for name, value in facts.items():
            display.result(f"  {name:{width}}  {value}")


def _told(facts: Facts) -> Facts:
    """All facts that can be told: a probe that fails is what a report is for."""
    try:
        yield from facts
    except Exception as error:
        yield "not known", " ".join(f"{type(error).__name__}: {error}".split())


def _disk(folder: Callable[[], object]) -> str:
    try:
        usage = shutil.disk_usage(str(folder()))
    except OSError as error:
        return f"not known ({error})"
    return f"{usage.free / 1e9:.1f} GB free of {usage.total / 1e9:.1f}"


def _gpu_memory(device: int) -> str:
    import torch

    try:
        free, total = torch.cuda.mem_get_info(device)
    except RuntimeError as error:
        return f"memory not known ({' '.join(str(error).split())})"
    return f"{free / 1e9:.1f} GB free of {total / 1e9:.1f}"


def _versions() -> Facts:
    yield "python", f"{platform.python_version()} ({platform.python_implementation()})"
    for name in _PACKAGES:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            yield name, "not installed"


def _machine() -> Facts:
    from frcnn_cli.picture import has_display

    yield "system", platform.platform()
    model, flags = _processor()
    yield "processor", model
    yield "vector instructions", " ".join(flag for flag in _FLAGS if flag in flags) or "not known"
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield "cores", f"{usable} usable of {os.cpu_count()}"
    memory = system_memory()
    if memory is not None:
        yield "memory", f"{memory[0] / 1e9:.1f} GB free of {memory[1] / 1e9:.1f}"
    yield "disk here", _disk(Path.cwd)
    yield "disk for temporary files", _disk(tempfile.gettempdir)
    yield "display", "yes" if has_display() else "none: --show saves pictures instead"


def _processor() -> tuple[str, set[str]]:
    model, flags = platform.processor() or platform.machine(), set[str]()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return model, flags
    for line in lines:
        name, _, value = (part.strip() for part in line.partition(":"))
        if name == "model name":
            model = value
        elif name in ("flags", "Features"):
            flags = set(value.split())
    return model, flags


def _devices() -> Facts:
    import torch

    yield "threads", f"{torch.get_num_threads()} for PyTorch's operators and our kernels"
    if not torch.cuda.is_available():
        build = torch.version.cuda
        why = (
            "this PyTorch is built for CPUs alone"
            if build is None
            else f"PyTorch's CUDA {build} finds no driver or GPU"
        )
        yield "GPU", f"none: {why}"
        return
    yield "CUDA", f"{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"  # type: ignore[no-untyped-call]
    for i in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(i)
        yield f"cuda:{i}", f"{about.name}, compute capability {about.major}.{about.minor}, {_gpu_memory(i)}"


def _kernels() -> Facts:
    import torch

    from frcnn_cli.jit import is_cached
    from frcnn_cli.proposals.selective_search import grouping
    from frcnn_cli.roi.pooling import max_pool_cpu
    from frcnn_cli.roi.pooling.gpu import why_not_triton

    kept = all(is_cached(kernel) for kernel in (grouping.group, max_pool_cpu._pool))
    compiled = "compiled once" if kept else "compiled in every process: no folder for Numba's cache can be written"
    yield "selective search", f"Numba, {compiled}"
    yield "RoI pooling on the CPU", f"Numba, {compiled}"
    for i in range(torch.cuda.device_count()):
        reason = why_not_triton(torch.device("cuda", i))
        yield f"RoI pooling on cuda:{i}", f"torchvision's: {reason}" if reason else "Triton"
    native = bool({"avx512_bf16", "amx_bf16", "bf16"} & _processor()[1])
    yield "bfloat16 on the CPU", "native" if native else "emulated: slower than float32 on this processor"


def _plugins() -> Facts:
    from frcnn_cli.proposals.registry import load_registry

    registry = load_registry()
    for name, loaded in sorted(registry.sources.items()):
        yield name, f"version {loaded.source.version}, of {loaded.origin}"
    for failure in registry.failures:
        yield failure.entry_point, f"failed to load ({failure.origin}): {failure.reason}"
