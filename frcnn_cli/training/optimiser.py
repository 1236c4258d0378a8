"""Stochastic gradient descent with the authors' two groups of parameters."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import SGD

from frcnn_cli.recipes.sections import Solver


def optimiser(network: nn.Module, solver: Solver) -> SGD:
    """SGD with the authors' groups: biases learn at a rate of their own and are not decayed.

    Caffe keeps the rate inside the velocity and PyTorch outside: the two differ for some steps after the rate changes.
    """
    trained = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for name, p in trained if not name.endswith("bias")], "rate_factor": 1.0},
        {"params": [p for name, p in trained if name.endswith("bias")], "rate_factor": solver.bias_rate},
    ]
    groups[1]["weight_decay"] = solver.weight_decay if solver.bias_decay else 0.0
    return SGD(groups, lr=solver.learning_rate, momentum=solver.momentum, weight_decay=solver.weight_decay, fused=True)
