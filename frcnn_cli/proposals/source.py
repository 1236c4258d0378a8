"""What a proposal source is: a frozen dataclass whose fields are its options.

An instance is a source ready to run. Its options are typed and documented once, as fields (see `core.options`); the
checks, `frcnn plugins NAME`, `--set key=value`, and what files and models record all come from there.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.boxes import Boxes
from frcnn_cli.core.equality import hash_of_values, same_values
from frcnn_cli.core.errors import UsageError
from frcnn_cli.core.image import Image
from frcnn_cli.core.option_types import Build
from frcnn_cli.core.options import Option, did_you_mean, json_value, options_of


class Proposals(NamedTuple):
    """Class-agnostic boxes of one image, best first.

    boxes: float32 [N, 4], x1 y1 x2 y2, continuous pixels inside the image.
    scores: float32 [N], larger is better; None if there is only an order.
    """

    boxes: Boxes
    scores: NDArray[np.float32] | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Proposals) and same_values(tuple(self), tuple(other))

    def __ne__(self, other: object) -> bool:
        return not self == other  # otherwise the comparison of tuples

    def __hash__(self) -> int:
        return hash_of_values(tuple(self))


@dataclass(frozen=True)
class ProposalSource(ABC):
    """Turns one image into boxes. Subclass it as a frozen dataclass; see `frcnn_cli.proposals.hook`.

    A source is deterministic, never writes to the image, and handles every size from 1 x 1 up. It is pickled to worker
    processes, so whatever is large or costly is built on first use (a module-level `functools.cache`, for example). To
    refuse a combination of options, raise ValueError in `__post_init__`.
    """

    name: ClassVar[str]
    version: ClassVar[str]

    @abstractmethod
    def propose(self, image: Image) -> Proposals:
        """Boxes of one image, best first: a `Proposals`, or only the array of boxes."""

    def maps_id(self) -> str | None:
        """The `features_id` of the conv maps from which `propose_in_maps` proposes; None if the source reads images.
        A detector that computes these maps anyway then passes them, and each image goes through the conv layers
        once."""
        return None

    def reads_maps_of(self, detector: Any) -> bool:
        """Whether `propose_in_maps` reads the conv maps that a detector computes."""
        wanted = self.maps_id()
        return wanted is not None and bool(wanted == detector.features_id)

    def in_detector(self, detector: Any) -> Self:
        """This source for a detector that was trained with it; a source that reads weights can use the detector's."""
        return self

    def propose_in_maps(self, image: Image, maps: Any, scales: Any) -> Proposals:
        """Like `propose`, from the conv maps and scales of the image (see `Detector.feature_map`). Sources that have no
        `maps_id` read the image alone."""
        return self.propose(image)

    def prepare(self) -> None:  # noqa: B027 (most sources need nothing)
        """Called in every process before its first image, but not by `frcnn_cli.propose`. Raise FrcnnError if the
        source cannot work at all (for example because a file that it needs is damaged): the command then ends."""

    def is_prepared(self) -> bool:
        """Whether `prepare` is quick. Return False while it would compile something for seconds; a note is then
        printed."""
        return True

    @classmethod
    def restated(cls, version: str, options: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The options with which this version makes the boxes that an earlier version made with `options`; None if it
        cannot. A model that was trained with the earlier version then still detects."""
        return None

    def files(self) -> list[Path]:
        """The files that the source reads, so that the output never replaces one; by default, the options that are
        paths."""
        return [value for value in vars(self).values() if isinstance(value, Path)]

    @classmethod
    def options(cls) -> list[Option]:
        """The options, in the order of the fields."""
        return options_of(cls)

    @classmethod
    def configured(cls, values: Mapping[str, Any], build: Build | None = None) -> Self:
        """A source with these options.

        Args:
            values: text as typed, or JSON values as recorded.
            build: makes the sources that options of a source name (the registry passes it).

        Raises:
            UsageError: an unknown option, a value of the wrong type or out of bounds, or a missing option.
        """
        known = {opt.name: opt for opt in cls.options()}
        parsed = {}
        for key, value in values.items():
            opt = known.get(key.replace("-", "_"))
            if opt is None:
                have = ", ".join(known) or "none"
                wrong = f"source {cls.name!r} has no option {key!r}{did_you_mean(key, known)}"
                raise UsageError(wrong, f"Its options: {have}")
            try:
                parsed[opt.name] = opt.parse(value, build)
            except UsageError as error:
                raise UsageError(f"source {cls.name!r}: {error.what}", error.fix) from None
        for opt in known.values():
            if opt.default is MISSING and opt.name not in parsed:
                raise UsageError(f"source {cls.name!r} needs {opt.name}: {opt.help}", f"Add --set {opt.name}=VALUE")
        try:
            return cls(**parsed)
        except ValueError as error:
            raise UsageError(f"source {cls.name!r}: {error}", f"See frcnn plugins {cls.name}") from None

    def described(self) -> dict[str, Any]:
        """Name, version and options as JSON values: what files and models record, and `configured` reads back."""
        options = {f.name: json_value(getattr(self, f.name)) for f in dataclasses.fields(self)}
        return {"name": self.name, "version": self.version, "options": options}
