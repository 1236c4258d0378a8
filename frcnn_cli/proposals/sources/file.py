"""Boxes that somebody else has computed, as a source like any other."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from frcnn_cli.errors import FileFormatError, MismatchError
from frcnn_cli.proposals.files import ENDINGS
from frcnn_cli.proposals.hook import Image, Proposals, ProposalSource, option


@dataclass(frozen=True)
class FileSource(ProposalSource):
    """Boxes read from a file: ours, .npz, .csv, .json, COCO results, MATLAB's, or pickles of other tools.

    An entry belongs to the image whose key or path it is, or ends: `b/1.jpg`, `1.jpg` and `1` are all entries of
    `.../b/1.jpg`; `a/1.jpg` is not. Numbers are in our convention unless the file or an option says otherwise;
    `frcnn import` finds the convention out.
    """

    name = "file"
    version = "2"

    path: Path = option(help="a .h5 of ours, .npz, .csv, .json, .mat or .pkl, or a folder with a .mat or .npy an image")
    order: Literal["xyxy", "yxyx", "xywh", "yxhw", "cxcywh"] | None = option(
        None, help="what the four numbers are; none: as the file tells, else xyxy"
    )
    base: int | None = option(
        None, help="the first pixel's coordinate; none: as the file tells, else 0", minimum=0, maximum=1
    )
    inclusive: bool | None = option(
        None, help="the far corner is the last pixel inside, not the first beyond; none: as the file tells, else no"
    )
    relative: bool | None = option(
        None, help="numbers are shares of the image's size; none: as the file tells, else no"
    )

    def __post_init__(self) -> None:
        if not self.path.exists():
            raise ValueError(f"{self.path} is not a file")
        if self.path.is_file() and self.path.suffix.lower() not in ENDINGS:
            raise ValueError(f"{self.path} ends in none of {' '.join(ENDINGS)}")

    def described(self) -> dict[str, Any]:
        """With a hash of the content: another file under the same path is another source of boxes."""
        total = hashlib.blake2b(digest_size=16)
        for file in sorted(self.path.iterdir()) if self.path.is_dir() else [self.path]:
            if file.is_file():
                with open(file, "rb") as opened:
                    total.update(hashlib.file_digest(opened, "blake2b").digest())
        return {**super().described(), "content": total.hexdigest()}

    def prepare(self) -> None:
        """Reads the file, so that damage is said once and not for every image."""
        self._content  # noqa: B018

    def __getstate__(self) -> dict[str, Any]:
        """For worker processes: without the content, which each reads itself."""
        return {name: value for name, value in vars(self).items() if name != "_content"}

    @cached_property
    def _content(self) -> Any:
        """The file, its names, and its convention."""
        from frcnn_cli.proposals.files.convention import OURS, Convention
        from frcnn_cli.proposals.files.importing import read_box_file
        from frcnn_cli.proposals.files.matching import Names

        file = read_box_file(self.path)
        if file.names is None:
            raise FileFormatError(
                f"{self.path} does not name its images", "Read it with frcnn import, which goes by the data set's order"
            )
        stated = {name: getattr(self, name) for name in vars(OURS) if getattr(self, name) is not None}
        return file, Names(file.names), Convention(**{**file.told, **stated})

    def propose(self, image: Image) -> Proposals:
        from frcnn_cli.proposals.files.importing import Troubles, proposals_of
        from frcnn_cli.store.join import Lookup

        file, names, convention = self._content
        if file.records is not None:
            i = Lookup(file.records, str(self.path)).find(image.record, str(image.path or image.key))
        else:
            i = names.find(image.key, image.path)
        if i is None:
            raise MismatchError(
                f"{self.path} has no boxes for image {image.key!r}",
                "Name a file made for these images, or another source",
            )
        bad = Troubles()
        found = proposals_of(file.read(i), convention, image.key, image.width, image.height, "error", bad)
        bad.counts.pop("without area", None)  # a box of no area is too small, not wrong
        if bad.counts:
            raise FileFormatError(
                f"{self.path}, read as {convention}, for an image of {image.width} x {image.height}: {bad}",
                "Set order, base or inclusive; frcnn import finds them out, and drops or clips what is bad",
            )
        return found
