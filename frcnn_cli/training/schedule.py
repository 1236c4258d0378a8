"""The learning rate of each iteration, as a factor of the base rate."""

from __future__ import annotations

import math

from frcnn_cli.recipes.sections import Solver


def rate_at(iteration: int, total: int, solver: Solver) -> float:
    """The learning rate of iteration 0 .. total - 1.

    step: the base rate, `step_factor` of it from `step_at` on. cosine: from the base rate to 0 along half a cosine.
    Either rises linearly over the first `warmup` iterations.
    """
    if solver.schedule == "step":
        factor = 1.0 if iteration < solver.step_at * total else solver.step_factor
    else:
        factor = 0.5 * (1 + math.cos(math.pi * iteration / total))
    if iteration < solver.warmup:
        factor *= (iteration + 1) / (solver.warmup + 1)
    return solver.learning_rate * factor
