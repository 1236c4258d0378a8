"""Whether our Triton kernels run here, and how they are launched."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib.util import find_spec
from shutil import which
from typing import Any

import torch

# Products are rounded before anything is added to them, as torchvision's are: a corner that lies at the middle of two
# cells stays there.
EXACT: dict[str, Any] = {"enable_fp_fusion": False}


def triton_takes(features: torch.Tensor) -> bool:
    """Whether our GPU kernels run on these maps; torchvision's operators stand in for them elsewhere."""
    return features.dtype != torch.float64 and why_not_triton(features.device) is None


@cache
def why_not_triton(device: torch.device) -> str | None:
    """None where our kernels run; else what is missing."""
    if device.type != "cuda":
        return "not a CUDA device"
    if find_spec("triton") is None:
        return "Triton is not installed (PyTorch's Linux builds bring it)"
    if not any(which(compiler) for compiler in (os.environ.get("CC", "cc"), "gcc", "clang")):
        return "there is no C compiler, which Triton needs to launch kernels (on Debian: apt install gcc)"
    major, minor = torch.cuda.get_device_capability(device)
    return None if (major, minor) >= (7, 0) else f"compute capability {major}.{minor} is below 7.0"


def current(device: torch.device) -> AbstractContextManager[object]:
    """Kernels are launched on the current device: makes it that of the tensors. (A CPU's are for the interpreter.)"""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def block(channels: int) -> int:
    """How many channels one program handles: up to 512, 16 bytes at a time for each of 128 threads (float32)."""
    return min(512, 1 << max(0, channels - 1).bit_length())
