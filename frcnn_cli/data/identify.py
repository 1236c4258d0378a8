"""Which images these are, without decoding them: for joining a data set with a stage's file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from frcnn_cli.data.prefetch import prefetch
from frcnn_cli.image import ImageRecord, ImageRef


def records(refs: Iterable[ImageRef], digest: Callable[[Path], str]) -> list[ImageRecord]:
    """Key and content hash of each image; size unknown (0).

    Raises:
        ImageError: a file that cannot be read.
    """
    return list(prefetch(lambda ref: ImageRecord(ref.key, 0, 0, digest(ref.path)), refs, threads=4, ahead=16))
