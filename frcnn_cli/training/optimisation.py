"""Stochastic gradient descent with the authors' two groups of parameters, and the moving average of the weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.swa_utils import AveragedModel

from frcnn_cli.recipes.sections import Solver


def make_optimiser(network: nn.Module, solver: Solver) -> SGD:
    """SGD over the parameters that require gradients, in the authors' groups: biases have their own learning rate and
    no weight decay.

    Caffe includes the learning rate in the velocity, PyTorch does not: the two differ for some steps after the rate
    changes.
    """
    trained = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for name, p in trained if not name.endswith("bias")], "rate_factor": 1.0},
        {"params": [p for name, p in trained if name.endswith("bias")], "rate_factor": solver.bias_lr_factor},
    ]
    groups[1]["weight_decay"] = solver.weight_decay if solver.bias_decay else 0.0
    return SGD(groups, lr=solver.learning_rate, momentum=solver.momentum, weight_decay=solver.weight_decay, fused=True)


def make_average(network: nn.Module, decay: float) -> AveragedModel:
    """The exponential moving average of the weights: a = d a + (1 - d) w after each iteration.

    In iteration n = 1, 2, ..., the decay is d = min(decay, n / (n + 9)), so that the initial weights soon vanish.
    """

    @torch.no_grad()
    def average(averaged: Any, current: Any, number: Any) -> None:
        count = int(number)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, count / (count + 9)))

    averaged = AveragedModel(network, multi_avg_fn=average)
    averaged.n_averaged.fill_(1)  # the initial weights count as the first
    return averaged


def averaged_weights(average: AveragedModel, trained: set[str]) -> dict[str, Tensor]:
    """The averages of the trained parameters, by name."""
    return {name: value.detach() for name, value in average.module.named_parameters() if name in trained}


def restore_average(average: AveragedModel, weights: dict[str, Tensor], iterations: int) -> None:
    """Sets the average to what it was after this number of iterations."""
    parameters = dict(average.module.named_parameters())
    with torch.no_grad():
        for name, value in weights.items():
            parameters[name].copy_(value)
    average.n_averaged.fill_(1 + iterations)
