"""Conversion between tensors [B, C, h, w] and the arrays [B, h, w, C] that kernels read; half precision as integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def last(tensor: Tensor) -> Tensor:
    """[B, C, h, w] as [B, h, w, C], contiguous; a view if the tensor is channels last in memory."""
    return tensor.detach().permute(0, 2, 3, 1).contiguous()


def as_array(tensor: Tensor) -> NDArray[Any]:
    """The memory of the tensor as an array; a copy if the tensor is not contiguous."""
    array: NDArray[Any] = tensor.detach().contiguous().numpy()
    return array


def rois_as_array(rois: Tensor) -> NDArray[np.float32]:
    """float32 [R, 5] whatever the dtype of the maps: half precision would move corners by pixels."""
    return as_array(rois.to(torch.float32))


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision converted to float32, which represents all its numbers; other dtypes unchanged."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def half_as_keys(maps: Tensor) -> tuple[NDArray[np.int16], np.int16]:
    """float16 or bfloat16 as int16 keys that sort in the same order, and the key of the lowest finite number.

    The bits of a non-negative float, read as an integer, increase with its value; for negative floats the order is
    reversed. NaN and -infinity become the lowest finite number, with which a maximum starts, and -0 becomes 0.
    """
    lowest = torch.finfo(maps.dtype).min
    settled = maps.nan_to_num(nan=lowest, posinf=torch.inf, neginf=lowest) + 0.0
    bits = settled.contiguous().view(torch.int16)
    keys: NDArray[np.int16] = _turned(bits.numpy())
    return keys, np.int16(_turned(torch.tensor([lowest], dtype=maps.dtype).view(torch.int16).numpy())[0])


def keys_as_half(keys: NDArray[np.int16], dtype: torch.dtype) -> Tensor:
    """The inverse of `half_as_keys`."""
    return torch.from_numpy(_turned(keys)).view(dtype)


def _turned(bits: NDArray[np.int16]) -> NDArray[np.int16]:
    """Reverses the order of negative numbers; its own inverse. After a ReLU there are none, and nothing is done."""
    if bits.size == 0 or bits.min() >= 0:
        return bits
    turned: NDArray[np.int16] = bits ^ ((bits >> 15) & np.int16(0x7FFF))
    return turned
