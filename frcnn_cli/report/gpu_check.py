"""Whether a GPU computes what the CPU and torchvision compute: the table of `frcnn doctor --gpu`."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from frcnn_cli.core.boxes import Boxes
from frcnn_cli.core.image import Image
from frcnn_cli.detector.detector import Detector
from frcnn_cli.recipes.recipe import Recipe
from frcnn_cli.roi.pooling.gpu import why_not_triton
from frcnn_cli.roi.pooling.self_check import KERNELS, Kernel, problem_of
from frcnn_cli.roi.rois import RoIs
from frcnn_cli.training.loss import multi_task_loss

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_TOLERANCES = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 5e-2}  # of probabilities; convolutions may use TF32


class Check(NamedTuple):
    """One comparison. problem: how the results differ; "" if they do not."""

    what: str
    dtype: str
    problem: str
    seconds: float


def check_gpu(device: torch.device) -> list[Check]:
    """Compares a device with the CPU: RoI pooling, the network in each precision, and one training step.

    A comparison that fails, or that raises anything, is reported; the others continue.
    """
    return [_timed(what, dtype, compare) for what, dtype, compare in _comparisons(device)]


def _comparisons(device: torch.device) -> Iterator[tuple[str, str, Callable[[], str]]]:
    for kernel in KERNELS:
        for dtype in _DTYPES:
            yield f"RoI {kernel} pooling, Triton and torchvision", dtype, partial(_kernel, device, kernel, dtype)
    for precision in _DTYPES:
        if precision != "float16" or device.type == "cuda":
            yield "detection, GPU and CPU", precision, partial(_detection, device, precision)
    for kernel in KERNELS:
        yield f"training with RoI {kernel} pooling, GPU and CPU", "float32", partial(_training, device, kernel)


def _kernel(device: torch.device, kernel: Kernel, dtype: str) -> str:
    reason = why_not_triton(device) if device.type == "cuda" else None  # on a CPU, Triton's interpreter runs them
    return reason or problem_of(kernel, device, _DTYPES[dtype])


def _timed(what: str, dtype: str, compare: Callable[[], str]) -> Check:
    began = time.perf_counter()
    try:
        problem = compare()
    except Exception as error:
        problem = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return Check(what, dtype, problem, time.perf_counter() - began)


def _detection(device: torch.device, precision: str) -> str:
    """Probabilities of RoIs of one image."""
    detector, image, boxes = _made("max")
    expected = _scores(detector, image, boxes)
    found = _scores(copy.deepcopy(detector).to(device).to_precision(precision), image, boxes)
    return _difference("probabilities", found, expected, _TOLERANCES[precision])


def _scores(detector: Detector, image: Image, boxes: Boxes) -> Tensor:
    maps, scales = detector.feature_map(image, "float32")
    return torch.from_numpy(detector.score(maps, boxes, scales, image.height, image.width).probabilities)


def _training(device: torch.device, pooling: str) -> str:
    """Gradients of all weights."""
    detector, image, boxes = _made(pooling)
    there = copy.deepcopy(detector).to(device)
    expected, found = _gradients(detector, image, boxes), _gradients(there, image, boxes)
    for name, gradient in expected.items():
        if problem := _difference(f"the gradient of {name}", found[name].cpu(), gradient, 1e-2):
            return problem
    return ""


def _gradients(detector: Detector, image: Image, boxes: Boxes) -> dict[str, Tensor]:
    detector.train()
    detector.head.dropout = 0.0  # type: ignore[assignment]
    pixels, scale = detector.transforms[0](image.pixels)
    device = detector.device
    logits, deltas = detector(pixels[None].to(device), RoIs.of_images([boxes], [scale]))
    labels = (torch.arange(len(boxes)) % 2).to(device)
    multi_task_loss(logits, deltas, labels, torch.ones(len(boxes), 4, device=device)).total.backward()  # type: ignore[no-untyped-call]
    return {name: p.grad for name, p in detector.named_parameters() if p.grad is not None}


def _difference(what: str, found: Tensor, expected: Tensor, tolerance: float) -> str:
    largest = float((found - expected).abs().max()) / max(float(expected.abs().max()), 1e-12)
    return "" if largest <= tolerance else f"{what} differ by {largest:.2g} of the largest"


def _made(pooling: str) -> tuple[Detector, Image, Boxes]:
    """A small detector with seeded weights, an image, and boxes."""
    changes = {"network.backbone": "small", "network.pooling": pooling, "images.short_side": 0}
    detector = Detector.untrained(Recipe().changed(changes), "none", "cpu")
    rng = np.random.default_rng(0)
    image = Image.from_array(rng.integers(0, 256, (96, 128, 3), dtype=np.uint8), "noise")
    corners = rng.random((40, 4)).astype(np.float32) * (64, 48, 60, 44)
    boxes = np.concatenate([corners[:, :2], corners[:, :2] + corners[:, 2:] + 4], axis=1).astype(np.float32)
    return detector, image, boxes
