"""Feature pyramids (FPN, Lin et al., 2017): maps at several strides, each with the meaning of the coarsest.

Glossary: L levels, C channels (the same on all levels).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence

from torch import Tensor, nn

CHANNELS = 256  # of every level
UNITS = 1024  # of the hidden layers that read a pooled RoI


class FeaturePyramid(nn.Sequential):
    """Conv layers whose outputs at some points become the levels of a pyramid, finest first.

    The last module is the pyramid itself (lateral and top-down layers, torchvision's `FeaturePyramidNetwork`); the
    modules before it are the network from image to coarsest map, so that leading ones can be frozen by index.
    """

    def __init__(self, layers: Sequence[nn.Module], taps: Sequence[int], channels: Sequence[int]) -> None:
        """
        Args:
            layers: the network, one module after the other. taps: indices of the modules whose outputs are used.
            channels: of these outputs.
        """
        from torchvision.ops import FeaturePyramidNetwork  # imported late: torchvision imports torch._dynamo

        super().__init__(*layers[: taps[-1] + 1], FeaturePyramidNetwork(list(channels), CHANNELS))
        self.taps = tuple(taps)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """float [B, 3, h, w] -> L maps [B, 256, h / stride, w / stride]."""
        *layers, pyramid = self
        outputs = OrderedDict()
        for i, layer in enumerate(layers):
            x = layer(x)
            if i in self.taps:
                outputs[str(i)] = x
        return tuple(pyramid(outputs).values())

    def bottom_up(self) -> Iterator[nn.Sequential]:
        """The layers between the image and each level, without those of the pyramid."""
        layers = list(self)
        for tap in self.taps:
            yield nn.Sequential(*layers[: tap + 1])
