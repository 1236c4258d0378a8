"""Edge boxes (Zitnick and Dollár, ECCV 2014) as a proposal source: boxes ranked by the contours inside them.

The boxes are OpenCV's (`ximgproc.EdgeBoxes`). They are computed from the edges of a structured forest if a model file
is given, and otherwise from gradients of the colours, thinned to one pixel.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from frcnn_cli.proposals.hook import FileFormatError, Image, Proposals, ProposalSource, hookimpl, option

_LEAST_SIDE = 64  # pixels; OpenCV's forest fails on images that are smaller than its patches
_TRY_MODEL = """
import sys, cv2, numpy
forest = cv2.ximgproc.createStructuredEdgeDetection(sys.argv[1])
edges = forest.detectEdges(numpy.random.default_rng(0).random((64, 80, 3), numpy.float32))
if not numpy.isfinite(edges).all():
    sys.exit("its edges are not finite")
"""


@dataclass(frozen=True)
class EdgeBoxes(ProposalSource):
    """Boxes ranked by the contours that lie wholly inside them."""

    name = "edge-boxes"
    version = "1"

    model: Path | None = option(None, help="Structured forest for the edges (OpenCV's .yml.gz); none: use gradients.")
    alpha: float = option(
        0.65, help="Step of the sliding windows, as the IoU of neighbours.", minimum=0.1, maximum=0.95
    )
    beta: float = option(0.75, help="IoU above which the worse of two boxes is dropped.", minimum=0.1, maximum=1.0)
    min_score: float = option(0.01, help="Minimum score of a box.", minimum=0.0)
    max_boxes: int = option(10_000, help="Maximum number of boxes that OpenCV returns.", minimum=1)
    min_area: float = option(400.0, help="Minimum area of a box, in square pixels.", minimum=1.0)
    max_aspect_ratio: float = option(
        3.0, help="Maximum ratio of the longer to the shorter side.", minimum=1.0, maximum=20.0
    )
    sigma: float = option(
        1.0, help="Blur before the gradients, in pixels; only without a model.", minimum=0.0, maximum=10.0
    )

    def __post_init__(self) -> None:
        if self.model is not None and not self.model.is_file():
            raise ValueError(f"{self.model} is not a file")

    def prepare(self) -> None:
        """Tries the model in another process: OpenCV does not check it, and a damaged file ends the process."""
        if self.model is None:
            return
        line = [sys.executable, "-c", _TRY_MODEL, str(self.model)]
        try:
            tried = subprocess.run(line, capture_output=True, text=True, timeout=120)
        except subprocess.TimeoutExpired:
            raise FileFormatError(f"{self.model} took OpenCV longer than 120 s", "Name another model") from None
        if tried.returncode != 0:
            said = [line for line in tried.stderr.splitlines() if line.strip()]
            reason = said[-1].strip() if said and tried.returncode > 0 else f"OpenCV crashed, {tried.returncode}"
            raise FileFormatError(
                f"{self.model} is not a structured forest ({reason})",
                "Name the model.yml.gz of OpenCV's extra modules, or remove the option model",
            )

    def propose(self, image: Image) -> Proposals:
        import cv2

        strength, angle = self._edges(image.pixels)
        search = cv2.ximgproc.createEdgeBoxes(
            alpha=self.alpha,
            beta=self.beta,
            minScore=self.min_score,
            maxBoxes=self.max_boxes,
            maxAspectRatio=self.max_aspect_ratio,
            minBoxArea=self.min_area,
        )
        corners, scores = search.getBoundingBoxes(strength, angle)
        corners = np.asarray(corners, np.float32).reshape(-1, 4)
        scores = np.asarray([] if scores is None else scores, np.float32).reshape(-1)  # OpenCV's None: no boxes
        boxes = np.concatenate([corners[:, :2], corners[:, :2] + corners[:, 2:]], axis=1)
        boxes = np.clip(boxes, 0, np.array([image.width, image.height] * 2, np.float32))
        order = np.lexsort((*boxes.T[::-1], -scores))  # one order where scores are equal
        return Proposals(boxes[order], scores[order])

    def _edges(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Strength in 0 .. 1, thinned, and the angle across the edge in [0, pi): float32 [H, W] both."""
        if self.model is None:
            return gradient_edges(pixels, self.sigma)
        height, width = pixels.shape[:2]
        missing = max(0, _LEAST_SIDE - height), max(0, _LEAST_SIDE - width)
        padded = np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
        strength = self._forest.detectEdges(padded.astype(np.float32) / np.float32(255))
        angle = self._forest.computeOrientation(strength)
        thinned = self._forest.edgesNms(strength, angle)
        return thinned[:height, :width].copy(), angle[:height, :width].copy()

    @cached_property
    def _forest(self) -> Any:
        import cv2

        return cv2.ximgproc.createStructuredEdgeDetection(str(self.model))

    def __getstate__(self) -> dict[str, Any]:
        """For worker processes: without the forest, which each reads itself."""
        return {name: value for name, value in vars(self).items() if name != "_forest"}


def gradient_edges(pixels: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Edges from the steepest colour channel.

    Args:
        pixels: RGB, [H, W, 3] uint8.
        sigma: blur before, in pixels.

    Returns:
        strength: float32 [H, W], 0 .. 1 (the steepest percent is 1), 0 where it is not a crest across the edge.
        angle: float32 [H, W], the direction across the edge, in [0, pi).
    """
    import cv2

    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB).astype(np.float32)
    if sigma > 0:
        lab = cv2.GaussianBlur(lab, (0, 0), sigma)
    across, down = (cv2.Sobel(lab, cv2.CV_32F, dx, dy, ksize=3) for dx, dy in ((1, 0), (0, 1)))
    squared = across**2 + down**2
    steepest = squared.argmax(axis=2)[..., None]
    gx, gy, square = (np.take_along_axis(values, steepest, 2)[..., 0] for values in (across, down, squared))
    strength = np.sqrt(square)
    strength = np.minimum(strength / max(float(np.percentile(strength, 99)), 1e-6), 1)
    angle = np.arctan2(gy, gx) % np.float32(np.pi)
    ys, xs = np.indices(strength.shape, np.float32)
    dx, dy = np.cos(angle), np.sin(angle)
    sides = [
        cv2.remap(strength, xs + sign * dx, ys + sign * dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for sign in (1, -1)
    ]
    crest = strength >= np.maximum(*sides) * np.float32(0.999)  # no lower than a pixel to either side
    return np.where(crest, strength, 0).astype(np.float32), angle.astype(np.float32)


@hookimpl
def frcnn_proposal_sources() -> list[type[ProposalSource]]:
    return [EdgeBoxes]
