"""Lower precision for detection."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch

from frcnn_cli.core.errors import FrcnnError, FrcnnWarning
from frcnn_cli.system.facts import has_bfloat16

if TYPE_CHECKING:
    from frcnn_cli.detector.detector import Detector

MAP_DTYPES = {"float16": torch.float16, "float32": torch.float32}  # of conv maps in memory and in files
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}  # of the layers


def set_precision(detector: Detector, precision: str) -> None:
    """Rounds the conv and hidden layers of a detector, in place; its outputs stay float32.

    Args:
        precision: "float32", "bfloat16", or "float16" on a GPU.

    Raises:
        FrcnnError: float16 on a CPU. ValueError: an unknown precision.
    """
    if precision not in DTYPES:
        raise ValueError(f"precision must be {', '.join(map(repr, DTYPES))}, not {precision!r}")
    if precision == "float16" and detector.device.type == "cpu":
        raise FrcnnError("float16 is supported on GPUs only", "Use --precision bfloat16, or --device cuda")
    if precision == "bfloat16" and detector.device.type == "cpu" and not has_bfloat16():
        warnings.warn(
            FrcnnWarning(
                "this processor has no instructions for bfloat16, which is about ten times as slow as float32"
            ),
            stacklevel=2,
        )
    detector.exact_ids = None if precision == "float32" else (detector.model_id, detector.features_id)
    detector.rounded |= precision != "float32"
    proposing = () if detector.rpn is None else (detector.rpn.conv,)
    for layer in (detector.conv, *detector.head.hidden_layers().values(), *proposing):
        layer.to(DTYPES[precision])
    detector.precision = precision
    detector.forget()
