"""Whether the Triton kernels can run on a device, and how they are launched."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib.util import find_spec
from shutil import which
from typing import Any

import torch

# No fused multiply-add: products are rounded before anything is added, as in torchvision, so that a corner exactly
# between two cells is rounded to the same cell.
EXACT: dict[str, Any] = {"enable_fp_fusion": False}


def triton_takes(features: torch.Tensor) -> bool:
    """Whether the Triton kernels can run on these maps; elsewhere torchvision's operators replace them."""
    return features.dtype != torch.float64 and why_not_triton(features.device) is None


@cache
def why_not_triton(device: torch.device) -> str | None:
    """What is missing to run the Triton kernels; None if nothing is."""
    if device.type != "cuda":
        return "not a CUDA device"
    if find_spec("triton") is None:
        return "Triton is not installed (PyTorch's Linux builds bring it)"
    if not any(which(compiler) for compiler in (os.environ.get("CC", "cc"), "gcc", "clang")):
        return "there is no C compiler, which Triton needs to launch kernels (on Debian: apt install gcc)"
    major, minor = torch.cuda.get_device_capability(device)
    return None if (major, minor) >= (7, 0) else f"compute capability {major}.{minor} is below 7.0"


def current(device: torch.device) -> AbstractContextManager[object]:
    """Makes `device` the current device, on which kernels are launched. (CPU tensors go to Triton's interpreter.)"""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def block(channels: int) -> int:
    """Channels per program: up to 512, which is 16 bytes for each of 128 threads (float32)."""
    return min(512, 1 << max(0, channels - 1).bit_length())
