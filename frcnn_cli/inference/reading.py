"""Images decoded ahead on threads; the error of one that cannot be read takes its place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from frcnn_cli.core.decoding import read_ref
from frcnn_cli.core.errors import ImageError
from frcnn_cli.core.image import Image, ImageRef
from frcnn_cli.system.prefetch import prefetch


def read_images(refs: Iterable[ImageRef]) -> Iterator[tuple[ImageRef, Image | ImageError]]:
    """Each reference with its image, or with the error of an image that cannot be read, in order."""

    def read(ref: ImageRef) -> tuple[ImageRef, Image | ImageError]:
        try:
            return ref, read_ref(ref)
        except ImageError as error:
            return ref, error

    return prefetch(read, refs)
