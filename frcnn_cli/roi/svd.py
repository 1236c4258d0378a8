"""Truncated SVD of fully connected layers, for faster detection (Fast R-CNN, section 3.1).

W [out, in] is replaced by U [out, r] times V [r, in]: r (in + out) multiplications instead of in * out.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Spectrum(NamedTuple):
    """left: float32 [out, m], the left singular vectors of W. energy: float64 [m], the squared singular values in
    descending order; m = min(out, in)."""

    left: Tensor
    energy: Tensor

    def rank_for(self, share: float) -> int:
        """The smallest rank that keeps this share of the sum of the squared singular values."""
        kept = torch.cumsum(self.energy, 0) / self.energy.sum().clamp_min(torch.finfo(torch.float64).tiny)
        return min(int((kept < share * (1 - 1e-12)).sum()) + 1, len(kept))


@torch.no_grad()
def spectrum(weight: Tensor) -> Spectrum:
    """The spectrum of a weight matrix W [out, in].

    Computed from the eigenvectors of W W^T [out, out], which is much smaller than W for fc6; in float64, because W is
    squared. The two layers of VGG16 take 26 s on two cores.
    """
    wide = weight.double()
    energy, left = torch.linalg.eigh(wide @ wide.T)
    count = min(weight.shape)
    return Spectrum(left.flip(1)[:, :count].float().contiguous(), energy.flip(0)[:count].clamp_min(0))


@torch.no_grad()
def truncated(layer: nn.Linear, rank: int, of: Spectrum | None = None) -> nn.Sequential:
    """The closest layer of a given rank: V without bias, then U with the original bias.

    Args:
        of: `spectrum(layer.weight)`, if it has been computed.

    Raises:
        ValueError: a rank below 1, or above that of any matrix of this shape.
    """
    if not 1 <= rank <= min(layer.weight.shape):
        raise ValueError(f"rank {rank} is not between 1 and {min(layer.weight.shape)}")
    left = (of or spectrum(layer.weight)).left[:, :rank]
    two = low_rank(layer, rank, device="meta")
    # U^T W is (singular values) V^T, as U has orthonormal columns.
    two.load_state_dict(
        {"0.weight": left.T @ layer.weight, "1.weight": left.contiguous(), "1.bias": layer.bias.clone()}, assign=True
    )
    return two


def low_rank(layer: nn.Linear, rank: int, device: str | torch.device | None = None) -> nn.Sequential:
    """Two layers of that rank that replace one; their weights are not set."""
    device = device or layer.weight.device
    return nn.Sequential(
        nn.Linear(layer.in_features, rank, bias=False, device=device),
        nn.Linear(rank, layer.out_features, device=device),
    )


def largest_useful_rank(layer: nn.Linear) -> int:
    """The largest rank at which the two layers need fewer multiplications than the original one."""
    return max(1, (layer.in_features * layer.out_features - 1) // (layer.in_features + layer.out_features))
