"""The learning rate of each iteration, as a factor of the base rate."""

from __future__ import annotations

import math

from frcnn_cli.training.config import TrainConfig

_STEP_AT = 0.75  # the authors' 30,000 of 40,000 iterations
_STEP_FACTOR = 0.1


def rate_at(iteration: int, total: int, config: TrainConfig) -> float:
    """The learning rate of iteration 0 .. total - 1.

    step: the base rate, a tenth of it for the last quarter. cosine: from the base rate to 0 along half a cosine. Either
    rises linearly over the first `warmup` iterations.
    """
    if config.schedule == "step":
        factor = 1.0 if iteration < _STEP_AT * total else _STEP_FACTOR
    else:
        factor = 0.5 * (1 + math.cos(math.pi * iteration / total))
    if iteration < config.warmup:
        factor *= (iteration + 1) / (config.warmup + 1)
    return config.learning_rate * factor
