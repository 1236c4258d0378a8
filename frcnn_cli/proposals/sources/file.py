"""Boxes from a file, as a source like any other."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from frcnn_cli.core.errors import FileFormatError, MismatchError
from frcnn_cli.proposals.box_files.box_file import ENDINGS
from frcnn_cli.proposals.hook import Image, Proposals, ProposalSource, option
from frcnn_cli.store.stage import absolute_stage, stage_paths


@dataclass(frozen=True)
class FileSource(ProposalSource):
    """Boxes read from a file: a .h5 of frcnn, .npz, .csv, .tsv, .json, COCO results, MATLAB, or pickles of other tools.

    An entry belongs to an image if its name equals the key or path of the image, or its end: `b/1.jpg`, `1.jpg` and `1`
    are entries of `.../b/1.jpg`; `a/1.jpg` is not. Numbers are in our convention unless the file or an option states
    another one; `frcnn import` detects it.
    """

    name = "file"
    version = "2"

    path: Path = option(
        help="A .h5 of frcnn (or several: 'props-*.h5'), .npz, .csv, .tsv, .json, .mat or .pkl, or a folder with one"
        " .mat or .npy per image."
    )
    order: Literal["xyxy", "yxyx", "xywh", "yxhw", "cxcywh"] | None = option(
        None, help="The meaning of the four numbers; none: as the file states, else xyxy."
    )
    base: int | None = option(
        None, help="The coordinate of the first pixel; none: as the file states, else 0.", minimum=0, maximum=1
    )
    inclusive: bool | None = option(
        None,
        help="Whether the far corner is the last pixel inside the box, not the first outside; none: as the file states,"
        " else false.",
    )
    relative: bool | None = option(
        None, help="Whether numbers are relative to the image size; none: as the file states, else false."
    )

    def __post_init__(self) -> None:
        if stage_paths(self.path) is not None:
            return  # several files of frcnn, read as one
        if not self.path.exists():
            raise ValueError(f"{self.path} does not exist")
        if not self.path.is_file() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a device or a pipe, not a file")
        if self.path.is_file() and self.path.suffix.lower() not in ENDINGS:
            raise ValueError(f"{self.path} does not end in {' '.join(ENDINGS)}")

    def described(self) -> dict[str, Any]:
        """With a hash of the content, because another file at the same path is another source."""
        total = hashlib.blake2b(digest_size=16)
        files = sorted(self.path.iterdir()) if self.path.is_dir() else stage_paths(self.path) or [self.path]
        for file in files:
            if file.is_file():
                with open(file, "rb") as opened:
                    total.update(hashlib.file_digest(opened, "blake2b").digest())
        return {**super().described(), "content": total.hexdigest()}

    def prepare(self) -> None:
        """Reads the file, so that damage is reported once and not for every image."""
        self._content  # noqa: B018

    def __getstate__(self) -> dict[str, Any]:
        """The state for worker processes, without the content, which each process reads itself."""
        state = {name: value for name, value in vars(self).items() if name != "_content"}
        return state | {"path": absolute_stage(self.path)}

    @cached_property
    def _content(self) -> Any:
        """The file, its entry names, and its convention."""
        from frcnn_cli.core.convention import OURS, Convention
        from frcnn_cli.proposals.box_files.matching import Names
        from frcnn_cli.proposals.box_files.reading import read_box_file

        file = read_box_file(self.path)
        if file.names is None:
            raise FileFormatError(
                f"{self.path} does not name its images",
                "Read it with frcnn import, which uses the order of the data set",
            )
        given = {name: getattr(self, name) for name in vars(OURS) if getattr(self, name) is not None}
        return file, Names(file.names), Convention(**{**file.stated, **given})

    def propose(self, image: Image) -> Proposals:
        return self._read(image)[0]

    def propose_all(self, image: Image) -> Proposals:
        """Like `propose`, but a box without area is an error, so that there is a result for every box of the file."""
        found, skipped = self._read(image)
        if skipped:
            raise FileFormatError(f"{self.path} has {skipped} box(es) without area for {image.key!r}", "Remove them")
        return found

    def _read(self, image: Image) -> tuple[Proposals, int]:
        """The boxes of an image, and how many without area were skipped."""
        from frcnn_cli.proposals.box_files.interpreting import BadBoxes, proposals_of
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
        bad = BadBoxes()
        found = proposals_of(file.read(i), convention, image.key, image.width, image.height, "error", bad)
        skipped = bad.counts.pop("without area", 0)  # a box without area is too small, not wrong
        if bad.counts:
            raise FileFormatError(
                f"{self.path}, read as {convention}, for an image of {image.width} x {image.height}: {bad}",
                "Set order, base or inclusive; frcnn import detects them, and drops or clips bad boxes",
            )
        return found, skipped
