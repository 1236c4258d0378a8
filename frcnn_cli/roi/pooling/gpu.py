"""Whether our Triton kernels run here, and how they are launched."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

import torch

# Products are rounded before anything is added to them, as torchvision's are: a corner that lies at the middle of two
# cells stays there.
EXACT: dict[str, Any] = {"enable_fp_fusion": False}


def triton_runs_on(device: torch.device) -> bool:
    """Whether our kernels run on this device; torchvision's operators stand in elsewhere."""
    return why_not_triton(device) is None


@cache
def why_not_triton(device: torch.device) -> str | None:
    """None where our kernels run; else what is missing."""
    if device.type != "cuda":
        return "not a CUDA device"
    if find_spec("triton") is None:
        return "Triton is not installed (PyTorch's Linux builds bring it)"
    major, minor = torch.cuda.get_device_capability(device)
    return None if (major, minor) >= (7, 0) else f"compute capability {major}.{minor} is below 7.0"


def block(channels: int) -> int:
    """How many channels one program handles: up to 512, 16 bytes at a time for each of 128 threads (float32)."""
    return min(512, 1 << max(0, channels - 1).bit_length())
