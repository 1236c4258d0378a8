"""Whether our Triton kernels run here, and how they are launched."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

import torch

# Products are rounded before anything is added to them, as torchvision's are: a corner that lies at the middle of two
# cells stays there.
EXACT: dict[str, Any] = {"enable_fp_fusion": False}


@cache
def triton_runs_on(device: torch.device) -> bool:
    """A CUDA device of compute capability 7.0 or more, and Triton installed (PyTorch's Linux builds bring it)."""
    if device.type != "cuda" or find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= (7, 0)


def block(channels: int) -> int:
    """How many channels one program handles: up to 512, 16 bytes at a time for each of 128 threads (float32)."""
    return min(512, 1 << max(0, channels - 1).bit_length())
