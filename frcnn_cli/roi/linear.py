"""Fully connected layers at the full speed of the processor."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def linear(layer: nn.Module, x: Tensor) -> Tensor:
    """`layer(x)` for a Linear, or for a sequence of them (truncated SVD). x: [R, in] -> [R, out].

    For float32 on a CPU, PyTorch calls MKL, which does not use AVX-512 on processors of other vendors than Intel: 102
    to 111 billion multiplications per second for fc6 on two cores of an AMD EPYC, where oneDNN, which PyTorch uses for
    conv layers, reaches 217 to 244. So detection calls oneDNN; training, which needs gradients, uses PyTorch's default.
    """
    for one in layer if isinstance(layer, nn.Sequential) else (layer,):
        assert isinstance(one, nn.Linear)
        fast = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_grad_enabled() and _has_onednn()
        if fast and len(x):
            x = torch.ops.mkldnn._linear_pointwise(x, one.weight, one.bias, "none", [], "")
        else:
            x = F.linear(x, one.weight, one.bias)
    return x


@cache
def _has_onednn() -> bool:
    """Whether this build of PyTorch has oneDNN and the operator through which its compiler calls it."""
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and hasattr(torch.ops.mkldnn, "_linear_pointwise")
