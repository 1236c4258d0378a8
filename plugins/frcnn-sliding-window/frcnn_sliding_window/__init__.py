"""Sliding windows as a proposal source for frcnn (`--source sliding-window`).

Section 5.6 of the paper compares dense boxes with selective search; this source makes them. It is also an example of a
plugin: one class, one hook, one entry point in `pyproject.toml`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from frcnn_cli.proposals.hook import Image, Proposals, ProposalSource, hookimpl, option


@dataclass(frozen=True)
class SlidingWindow(ProposalSource):
    """Windows of several sizes and shapes at regular steps over the image, the largest first."""

    name = "sliding-window"
    version = "1"

    scales: tuple[float, ...] = option(
        (0.8, 0.5, 0.3, 0.2, 0.12),
        help="Window sizes: square root of the area, as a fraction of the image's short side.",
        minimum=0.01,
        maximum=1.0,
    )
    aspect_ratios: tuple[float, ...] = option(
        (1.0, 0.5, 2.0), help="Ratios of width to height.", minimum=0.05, maximum=20.0
    )
    stride: float = option(
        0.25, help="Step between windows, as a fraction of the window's side.", minimum=0.05, maximum=1.0
    )

    def propose(self, image: Image) -> Proposals:
        short = min(image.height, image.width)
        windows = [
            self._windows(image, scale * short * ratio**0.5, scale * short / ratio**0.5)
            for scale in sorted(self.scales, reverse=True)
            for ratio in self.aspect_ratios
        ]
        return Proposals(np.concatenate(windows))

    def _windows(self, image: Image, width: float, height: float) -> np.ndarray:
        """All windows of one size, float32 [N, 4], row by row."""
        width, height = min(width, image.width), min(height, image.height)
        x1, y1 = np.meshgrid(
            _starts(image.width, width, self.stride * width), _starts(image.height, height, self.stride * height)
        )
        corners = np.stack([x1.ravel(), y1.ravel(), x1.ravel() + width, y1.ravel() + height], axis=1)
        limits = [image.width, image.height] * 2
        return np.minimum(corners, limits).astype(np.float32)


def _starts(length: float, window: float, step: float) -> np.ndarray:
    """Starts of windows from border to border, at most `step` apart and evenly spread."""
    count = int(np.ceil((length - window) / step)) + 1
    return np.linspace(0, length - window, count)


@hookimpl
def frcnn_proposal_sources() -> list[type[ProposalSource]]:
    return [SlidingWindow]
