"""Facts about the machine and the installation, for a bug report. The error of a failed probe is reported as a fact."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from frcnn_cli.system.memory import system_memory
from frcnn_cli.system.processes import usable_cores

Facts = Iterator[tuple[str, str]]

_PACKAGES = (
    *("frcnn-cli", "torch", "torchvision", "triton", "numba", "llvmlite", "numpy", "scipy", "opencv-contrib-python"),
    *("h5py", "pillow", "safetensors", "click", "rich", "pluggy", "matplotlib", "defusedxml"),
)
_FLAGS = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


def collected(facts: Facts) -> dict[str, str]:
    """All facts up to the first probe that fails, and its error."""
    found: dict[str, str] = {}
    try:
        for fact in facts:
            found.update([fact])
    except Exception as error:
        found["unknown"] = " ".join(f"{type(error).__name__}: {error}".split())
    return found


def versions() -> Facts:
    """Python and the packages."""
    yield "python", f"{platform.python_version()} ({platform.python_implementation()})"
    for name in _PACKAGES:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            yield name, "not installed"


def machine() -> Facts:
    """System, processor, memory, disk and display."""
    from frcnn_cli.system.window import has_display

    yield "system", platform.platform()
    model, flags = _processor()
    yield "processor", model
    yield "vector instructions", " ".join(flag for flag in _FLAGS if flag in flags) or "unknown"
    yield "cores", f"{usable_cores()} usable of {os.cpu_count()}"
    memory = system_memory()
    if memory is not None:
        yield "memory", f"{memory[0] / 1e9:.1f} GB free of {memory[1] / 1e9:.1f}"
    yield "disk here", _disk(Path.cwd)
    yield "disk for temporary files", _disk(tempfile.gettempdir)
    yield "display", "yes" if has_display() else "none: --show saves pictures instead"


def devices() -> Facts:
    """Threads and GPUs."""
    import torch

    yield "threads", f"{torch.get_num_threads()} for PyTorch's operators and the kernels of frcnn"
    if not torch.cuda.is_available():
        build = torch.version.cuda
        built = "this PyTorch is built for CPUs only"
        yield "GPU", f"none: {built if build is None else f'PyTorch (CUDA {build}) finds no driver or GPU'}"
        return
    yield "CUDA", f"{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"  # type: ignore[no-untyped-call]
    for i in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(i)
        yield f"cuda:{i}", f"{about.name}, compute capability {about.major}.{about.minor}, {_gpu_memory(i)}"


def has_bfloat16() -> bool:
    """Whether the processor has instructions for bfloat16, without which it is about ten times as slow as float32; true
    where the system does not report the instructions."""
    flags = _processor()[1]
    return not flags or bool(_BFLOAT16_FLAGS & flags)


def _disk(folder: Callable[[], object]) -> str:
    try:
        usage = shutil.disk_usage(str(folder()))
    except OSError as error:
        return f"unknown ({error})"
    return f"{usage.free / 1e9:.1f} GB free of {usage.total / 1e9:.1f}"


def _gpu_memory(device: int) -> str:
    import torch

    try:
        free, total = torch.cuda.mem_get_info(device)
    except RuntimeError as error:
        return f"memory unknown ({' '.join(str(error).split())})"
    return f"{free / 1e9:.1f} GB free of {total / 1e9:.1f}"


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
