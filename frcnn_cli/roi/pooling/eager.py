"""When a kernel may be called directly, without the registered operator."""

from __future__ import annotations

import torch
from torch import Tensor


def may_call_kernel(*features: Tensor) -> bool:
    """Whether neither a gradient nor a graph is recorded, so that the kernel can be called without the operator.

    The first call of an operator imports torch._dynamo, which takes as long as `import torch`.
    """
    records = any(one.requires_grad for one in features) and torch.is_grad_enabled()
    return all(type(one) is Tensor for one in features) and not records and not torch.compiler.is_compiling()
