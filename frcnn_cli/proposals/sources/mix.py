"""Several sources combined into one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from frcnn_cli.proposals.hook import Image, Proposals, ProposalSource, option
from frcnn_cli.proposals.limits import validated


@dataclass(frozen=True)
class Mix(ProposalSource):
    """The boxes of several sources, interleaved: the best of each, then the second best of each, and so on."""

    name = "mix"
    version = "1"

    sources: tuple[ProposalSource, ...] = option(help="The sources, by name. You can also repeat --source.")

    def __post_init__(self) -> None:
        if any(source.name == self.name for source in self.sources):
            raise ValueError("a mix cannot contain a mix; name its sources instead")

    def files(self) -> list[Path]:
        return [path for source in self.sources for path in source.files()]

    def prepare(self) -> None:
        for source in self.sources:
            source.prepare()

    def is_prepared(self) -> bool:
        return all(source.is_prepared() for source in self.sources)

    def propose(self, image: Image) -> Proposals:
        found, turns = [], []
        for i, source in enumerate(self.sources):
            boxes, scores = validated(source.propose(image), image, source.name)
            if scores is not None:
                boxes = boxes[np.argsort(-scores, kind="stable")]
            found.append(boxes)
            turns.append(np.arange(len(boxes)) * len(self.sources) + i)
        boxes, turn = np.concatenate(found), np.concatenate(turns)
        return Proposals(boxes[np.argsort(turn)])
