"""The learning rate of each iteration."""

from __future__ import annotations

import math

from frcnn_cli.recipes.sections import Solver


def rate_at(iteration: int, total: int, solver: Solver) -> float:
    """The learning rate of iteration 0 .. total - 1.

    step: the base rate, and `step_factor` times the base rate after the fraction `step_at` of all iterations.
    cosine: from the base rate to 0 along a cosine. Both rise linearly over the first `warmup` iterations.
    """
    if solver.schedule == "step":
        factor = 1.0 if iteration < solver.step_at * total else solver.step_factor
    else:
        factor = 0.5 * (1 + math.cos(math.pi * iteration / total))
    if iteration < solver.warmup:
        factor *= (iteration + 1) / (solver.warmup + 1)
    return solver.learning_rate * factor
