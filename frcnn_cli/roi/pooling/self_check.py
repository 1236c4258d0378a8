"""Triton kernels check themselves on a GPU before they are used.

With an untested version of Triton, or on an untested GPU, a kernel may fail to compile or compute wrong numbers. So it
is compared with torchvision's operator on a small input when it is first used on a kind of GPU. If it fails, differs,
or takes too long, torchvision's operator replaces it, with one warning. Verdicts are kept on disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from frcnn_cli.core.errors import FrcnnWarning
from frcnn_cli.core.files import write_atomic
from frcnn_cli.roi.pooling.gpu import why_not_triton

Kernel = Literal["max", "align"]
KERNELS: tuple[Kernel, ...] = ("max", "align")

_TIME_LIMIT = 120.0  # seconds; compiling takes about 5
_FILE = "kernels.json"
_MAY_PASS = ("OutOfMemory", "out of memory", "has not ended")  # problems of the moment, which are not kept
_MAX_BYTES = 1 << 20
_BINS, _SCALE, _SAMPLES = (3, 2), 1 / 16, 2


def triton_takes(features: Tensor, kernel: Kernel) -> bool:
    """Whether a Triton kernel can run on these maps; elsewhere torchvision's operators replace it."""
    if features.dtype == torch.float64 or why_not_triton(features.device) is not None:
        return False
    # Nothing can be checked where nothing is computed: under a compiler, or while a graph is captured.
    if type(features) is not Tensor or torch.compiler.is_compiling() or torch.cuda.is_current_stream_capturing():
        return True
    return why_not_trusted(kernel, features.device) is None


@cache
def why_not_trusted(kernel: Kernel, device: torch.device) -> str | None:
    """What is wrong with a kernel on a device; None if nothing is. Warns if something is."""
    key = _key(kernel, device)
    known = _read()
    if key not in known:
        # A kernel that hangs cannot be ended, but what asks for it can go on with the other operator.
        known = {key: _within(_TIME_LIMIT, lambda: problem_of(kernel, device))}
        if not any(passing in known[key] for passing in _MAY_PASS):
            _write({**_read(), **known})
    problem = known[key]
    if problem:
        message = f"the Triton kernel of RoI {kernel} pooling is not used on {device} ({problem}); torchvision's is"
        fix = f"frcnn doctor --gpu prints details for a bug report; verdicts are kept in {cache_folder() / _FILE}"
        warnings.warn(FrcnnWarning(f"{message}. {fix}"), stacklevel=2)
    return problem or None


def problem_of(kernel: Kernel, device: torch.device, dtype: torch.dtype = torch.float32) -> str:
    """Compares a kernel with torchvision's operator, forward and gradient; returns how they differ, or "".

    Values and gradients are small whole numbers, so sums are exact in any order.
    """
    try:
        maps, rois, gradient = _input(device, dtype)
        found = (_max_pool if kernel == "max" else _align)(maps, rois, gradient)
        expected = _by_torchvision(kernel, maps, rois, gradient)
    except Exception as error:  # whatever a compiler raises
        return " ".join(f"{type(error).__name__}: {error}".split())[:200]
    for name, one, other in zip(("output", "gradient"), found, expected, strict=True):
        tolerance = 0.0 if kernel == "max" else 1e-5 if dtype == torch.float32 else 2e-2
        if not torch.allclose(one.float(), other.float(), rtol=tolerance, atol=tolerance):
            difference = float((one.float() - other.float()).abs().max())
            return f"its {name} differs from torchvision's by {difference:.2g}"
    return ""


def _input(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Maps [2, 40, 9, 11], RoIs [7, 5], also with corners between cells and outside the map, and a gradient."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randint(-8, 9, (2, 40, 9, 11), generator=generator).to(device, dtype)
    maps = maps.to(memory_format=torch.channels_last)
    corners: list[tuple[float, ...]] = [
        (0, 0, 0, 175, 143),
        (1, 8, 24, 40, 56),
        (0, 40, 8, 47, 15),
        (1, 100, 60, 300, 200),
    ]
    corners += [(0, 17.3, 5.9, 88.1, 90.2), (1, 3, 3, 3, 3), (0, 160, 128, 176, 144)]
    gradient = torch.randint(-3, 4, (len(corners), 40, *_BINS), generator=generator).to(device, dtype)
    return maps, torch.tensor(corners, dtype=torch.float32, device=device), gradient


def _max_pool(maps: Tensor, rois: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    from frcnn_cli.roi.pooling import max_pool_gpu

    level = torch.zeros(len(rois), dtype=torch.int64, device=rois.device)
    pooled, winners = max_pool_gpu.forward([maps], rois, level, _BINS, [_SCALE], winners=True)
    return pooled, max_pool_gpu.backward(gradient, rois, winners, _SCALE, list(maps.shape))


def _align(maps: Tensor, rois: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    from frcnn_cli.roi.pooling import align_gpu

    level = torch.zeros(len(rois), dtype=torch.int64, device=rois.device)
    pooled = align_gpu.forward([maps], rois, level, _BINS, [_SCALE], _SAMPLES, True)
    return pooled, align_gpu.backward(gradient, rois, _SCALE, _SAMPLES, True, list(maps.shape))


def _by_torchvision(kernel: Kernel, maps: Tensor, rois: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    import torchvision  # imported late: it imports torch._dynamo, which takes as long as torch itself

    wide = maps.float().contiguous().requires_grad_()
    with torch.enable_grad():
        if kernel == "max":
            pooled = torchvision.ops.roi_pool(wide, rois, _BINS, _SCALE)
        else:
            pooled = torchvision.ops.roi_align(wide, rois, _BINS, _SCALE, _SAMPLES, True)
        (slopes,) = torch.autograd.grad(pooled, wide, gradient.float())
    return pooled.detach().to(maps.dtype), slopes.to(maps.dtype)


def _within(seconds: float, work: Callable[[], str]) -> str:
    """What `work` returns, or that it took too long."""
    found = [f"it has not ended in {seconds:.0f} s"]

    def run() -> None:
        found[0] = work()

    thread = threading.Thread(target=run, daemon=True, name="kernel check")
    thread.start()
    thread.join(seconds)
    return found[0]


def _key(kernel: Kernel, device: torch.device) -> str:
    """The kind of GPU, the versions of what compiles kernels, and the source of the kernel."""
    import triton

    folder = Path(__file__).parent
    sources = b"".join(
        (folder / name).read_bytes() for name in (f"{_MODULES[kernel]}.py", "gpu.py", Path(__file__).name)
    )
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    versions = f"torch {torch.__version__}, triton {triton.__version__}"
    return f"{kernel} {hashlib.blake2b(sources, digest_size=8).hexdigest()} on {name}, {versions}"


_MODULES = {"max": "max_pool_gpu", "align": "align_gpu"}


def cache_folder() -> Path:
    """Where verdicts are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "frcnn"


def _read() -> dict[str, str]:
    path = cache_folder() / _FILE
    try:
        if path.stat().st_size > _MAX_BYTES:
            return {}
        found: Any = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def _write(known: dict[str, str]) -> None:
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        write_atomic(cache_folder() / _FILE, json.dumps(known, indent=1).encode())
    except Exception:
        return  # it is then checked in every process
