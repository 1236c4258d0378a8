"""Building a network whose weights are loaded afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.nn import init
from torch.overrides import TorchFunctionMode

_RANDOM = {Tensor.normal_, Tensor.uniform_}


class WithoutInitialisation(TorchFunctionMode):
    """A context in which random initialisation does nothing.

    On the meta device PyTorch computes `normal_` in Python, and imports torch._dynamo for it: 3 s of 6 for
    `frcnn detect` on a small image.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _RANDOM or getattr(func, "__module__", None) == init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
