"""Several sources as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from frcnn_cli.errors import UsageError
from frcnn_cli.proposals.hook import Image, Proposals, ProposalSource
from frcnn_cli.proposals.source import Option


@dataclass(frozen=True)
class Mix(ProposalSource):
    """The boxes of several sources in turn: the best of each, then the second best, and so on; equal boxes once."""

    name = "mix"
    version = "1"

    parts: tuple[ProposalSource, ...]

    @classmethod
    def options(cls) -> list[Option]:
        """One: the names of the sources. What each is set to comes with `--source A --source B --set A.key=value`."""
        return [Option("sources", tuple[str, ...], MISSING, "the sources, by name; or give --source twice", None, None)]

    @classmethod
    def configured(cls, values: Mapping[str, Any]) -> Self:
        """From `{"sources": [...]}`: names, or descriptions as `described` gives them.

        Raises:
            UsageError: something else, or a mix in a mix. SourceError: a source that is not installed.
        """
        from frcnn_cli.proposals.registry import load_registry

        if set(values) != {"sources"}:
            wrong = ", ".join(sorted(set(values) - {"sources"})) or "nothing"
            raise UsageError(f"source 'mix' is set by sources alone, not by {wrong}", "Add --set sources=A,B")
        parts = values["sources"].split(",") if isinstance(values["sources"], str) else values["sources"]
        registry = load_registry()
        made = []
        for part in parts:
            if isinstance(part, str):
                if part == cls.name:
                    raise UsageError("a mix cannot be a part of a mix", "Name its sources instead")
                made.append(registry.configured(part, {}))
            else:
                made.append(registry.restored(part))
        return cls(tuple(made))

    def described(self) -> dict[str, Any]:
        options = {"sources": [part.described() for part in self.parts]}
        return {"name": self.name, "version": self.version, "options": options}

    def files(self) -> list[Path]:
        return [path for part in self.parts for path in part.files()]

    def prepare(self) -> None:
        for part in self.parts:
            part.prepare()

    def propose(self, image: Image) -> Proposals:
        from frcnn_cli.proposals.propose import checked

        found, turns = [], []
        for i, part in enumerate(self.parts):
            boxes, scores = checked(part.propose(image), image, part.name)
            if scores is not None:
                boxes = boxes[np.argsort(-scores, kind="stable")]
            found.append(boxes)
            turns.append(np.arange(len(boxes)) * len(self.parts) + i)
        boxes, turn = np.concatenate(found), np.concatenate(turns)
        return Proposals(boxes[np.argsort(turn)])
