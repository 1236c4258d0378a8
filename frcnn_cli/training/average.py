"""A moving average of the weights: smoother than the last ones, as late steps of SGD wander."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Average:
    """weights: by name, of every parameter that learns; a = d a + (1 - d) w after each iteration.

    d rises to `decay` with the iterations, min(decay, (1 + i) / (10 + i)): the first weights are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._learning = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self._decay = decay
        self.weights: dict[str, Tensor] = {name: value.detach().clone() for name, value in self._learning.items()}

    @torch.no_grad()
    def update(self, iteration: int) -> None:
        """After iteration 0, 1, ..."""
        decay = min(self._decay, (1 + iteration) / (10 + iteration))
        torch._foreach_lerp_(list(self.weights.values()), [v.detach() for v in self._learning.values()], 1 - decay)

    def restore(self, weights: Mapping[str, Tensor]) -> None:
        """As they were after an iteration before."""
        for name, value in weights.items():
            self.weights[name].copy_(value)
