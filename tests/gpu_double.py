"""A GPU for tests: tensors that state the device "cuda", compute on the CPU, and refuse to be mixed with CPU tensors.

    with fake_gpu():
        model.to("cuda")(images.to("cuda"))

Tensors "on" it are ordinary CPU tensors that a `TorchFunctionMode` keeps a list of. Every call of PyTorch passes
through the mode: if the tensors among its arguments are not all on the same device, it raises what CUDA raises
(tensors without dimensions, and indices of a tensor on the GPU, may be on the CPU), and its results are on the device
of its arguments.
`numpy()` of such a tensor raises too. Unlike fake tensors, they have values, which Fast R-CNN needs: how many RoIs lie
on a level decides what is computed next.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode, _pop_mode_temporarily
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakIdKeyDictionary

GPU = torch.device("cuda", 0)
_CROSSING = {"to", "cpu", "cuda", "copy_", "__set__", "set_data"}
_FREE = {
    "_has_compatible_shallow_copy_type",
    "is_floating_point",
    "is_complex",
    "is_same_size",
    "size",
    "stride",
    "dim",
    "numel",
    "data_ptr",
    "storage_offset",
}


class FakeGPU(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.there: Any = WeakIdKeyDictionary()  # the tensors on the GPU
        self.moved = 0  # copies between CPU and GPU

    def on_gpu(self, tensor: torch.Tensor) -> bool:
        return tensor in self.there

    def put(self, value: Any) -> Any:
        def one(leaf: Any) -> Any:
            if isinstance(leaf, torch.Tensor):
                self.there[leaf] = True
            return leaf

        return tree_map(one, value)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", str(func))
        owner = getattr(getattr(func, "__self__", None), "__name__", "")  # of a property: device, data, grad, ...
        if name == "__get__":
            return self._get(func, owner, args, kwargs)
        if name in ("__set__", "__delete__"):
            result = func(*args, **kwargs)
            if owner in ("data", "grad") and isinstance(args[1], torch.Tensor):
                self.put(args[0]) if self.on_gpu(args[1]) else self.there.pop(args[0], None)
            return result
        if name in ("to", "cpu", "cuda"):
            return self._move(func, name, args, kwargs)
        if name in ("numpy", "__array__") and self.on_gpu(args[0]):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")
        if name == "pin_memory":
            if self.on_gpu(args[0]):
                raise RuntimeError("cannot pin a tensor of cuda:0, only dense CPU tensors can be pinned")
            return args[0].clone()
        if name == "__deepcopy__":  # its other argument is a dictionary of what else was copied
            copied = func(*args, **kwargs)
            return self.put(copied) if self.on_gpu(args[0]) else copied
        kwargs.pop("pin_memory", None)
        wanted = self._device_of(kwargs)
        if name == "copy_":
            self.moved += self.on_gpu(args[0]) != self.on_gpu(args[1])
            return func(*args, **kwargs)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        here = [tensor for tensor in tensors if not self.on_gpu(tensor)]
        is_on_gpu = len(here) < len(tensors)
        if is_on_gpu and name not in _FREE:
            if name in ("__getitem__", "__setitem__") and self.on_gpu(args[0]):
                here = []  # indices and values of a tensor on the GPU may be on the CPU
            if any(tensor.dim() for tensor in here):
                raise RuntimeError(
                    f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"
                    f" (in {name})"
                )
        result = func(*args, **kwargs)
        if wanted is not None:
            return self.put(result) if wanted == "cuda" else result
        return self.put(result) if is_on_gpu else result

    def _get(self, func: Any, owner: str, args: Any, kwargs: Any) -> Any:
        there = self.on_gpu(args[0])
        if owner == "device" and there:
            return GPU
        if owner in ("is_cuda", "is_cpu"):
            return there == (owner == "is_cuda")
        result = func(*args, **kwargs)
        return self.put(result) if there and isinstance(result, torch.Tensor) else result

    def _device_of(self, kwargs: dict[str, Any]) -> str | None:
        """The type of the device that is asked for; the CPU takes its place."""
        if kwargs.get("device") is None:
            return None
        wanted = torch.device(kwargs["device"]).type
        kwargs["device"] = "cpu"
        return wanted

    def _move(self, func: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        tensor, *rest = args
        there = self.on_gpu(tensor)
        wanted = {"cpu": "cpu", "cuda": "cuda"}.get(name)
        if name == "to":
            others = [leaf for leaf in rest if isinstance(leaf, torch.Tensor)]
            if others:
                wanted = "cuda" if self.on_gpu(others[0]) else "cpu"
            elif "device" in kwargs:
                wanted = self._device_of(kwargs)
            else:
                for i, leaf in enumerate(rest):
                    if isinstance(leaf, (str, torch.device)):
                        wanted = torch.device(leaf).type
                        rest[i] = "cpu"
            result = func(tensor, *rest, **kwargs)
        else:
            result = tensor
        wanted = wanted or ("cuda" if there else "cpu")
        if (wanted == "cuda") == there:
            return self.put(result) if there else result
        self.moved += 1
        if result is tensor:
            result = tensor.clone()
        return self.put(result) if wanted == "cuda" else result


@contextlib.contextmanager
def fake_gpu() -> Iterator[FakeGPU]:
    """The mode; inside of it there is one GPU. Our Triton kernels are replaced by those of the CPU, which
    tests/roi/test_gpu_kernels.py compares with them."""
    from frcnn_cli.roi.pooling import align, max_pool

    def on_cpu(kernel: Any) -> Any:
        def call(*arguments: Any) -> Any:
            with _pop_mode_temporarily():
                result = kernel(*arguments)
            return mode.put(result)

        return call

    def parameter(cls: Any, data: Any = None, requires_grad: bool = True) -> Any:
        made = new_parameter(cls, data, requires_grad)
        return mode.put(made) if data is not None and mode.on_gpu(data) else made

    class Generator:
        def __new__(cls, device: Any = "cpu") -> Any:
            return real_generator()

    real_generator, new_parameter = torch.Generator, torch.nn.Parameter.__new__
    mode = FakeGPU()
    with (
        patch.object(torch.nn.Parameter, "__new__", staticmethod(parameter)),
        patch("torch.Generator", Generator),
        patch("torch.cuda.is_available", return_value=True),
        patch("torch.cuda.device_count", return_value=1),
        patch("torch.cuda.is_bf16_supported", return_value=False),
        patch.object(max_pool, "triton_takes", return_value=True),
        patch.object(align, "triton_takes", return_value=True),
        patch.object(max_pool, "_only_on_gpu", on_cpu(max_pool._only_on_cpu)),
        patch.object(align, "_forward_on_gpu", on_cpu(align._forward_on_cpu)),
        mode,
    ):
        yield mode
