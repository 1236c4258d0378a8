"""Whether the Triton kernels can run on a device, and how they are launched."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib.util import find_spec
from itertools import accumulate
from shutil import which
from typing import Any, NamedTuple

import torch

# No fused multiply-add: products are rounded before anything is added, as in torchvision, so that a corner exactly
# between two cells is rounded to the same cell.
EXACT: dict[str, Any] = {"enable_fp_fusion": False}


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


class Packed(NamedTuple):
    """The maps of all levels end to end, for kernels: the cells of level l and image b begin at `table[l, 0] + b h w`.

    cells: [L maps together, C], contiguous. table: int64 [L, 3], first cell, height and width of each level.
    scales: float32 [L].
    """

    cells: torch.Tensor
    table: torch.Tensor
    scales: torch.Tensor


def packed(maps: Sequence[torch.Tensor], scales: Sequence[float]) -> Packed:
    """L maps [B, h, w, C], contiguous, as one; a single map is not copied."""
    shapes = [one.shape[1:3] for one in maps]
    ends = list(accumulate(len(maps[0]) * height * width for height, width in shapes))
    rows = [(first, *shape) for first, shape in zip((0, *ends), shapes, strict=False)]
    flat = [one.view(-1, one.shape[3]) for one in maps]
    device = maps[0].device
    return Packed(
        flat[0] if len(flat) == 1 else torch.cat(flat),
        torch.tensor(rows, dtype=torch.int64, device=device),
        torch.tensor(scales, dtype=torch.float32, device=device),
    )


def block(channels: int) -> int:
    """Channels per program: up to 512, which is 16 bytes for each of 128 threads (float32)."""
    return min(512, 1 << max(0, channels - 1).bit_length())
