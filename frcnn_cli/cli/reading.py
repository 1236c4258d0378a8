"""Images decoded ahead on threads; one that cannot be read comes as its error, so that the others go on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from frcnn_cli.data.decode import read_ref
from frcnn_cli.data.prefetch import prefetch
from frcnn_cli.errors import ImageError
from frcnn_cli.image import Image, ImageRef


def read_ahead(refs: Sequence[ImageRef]) -> Iterator[tuple[ImageRef, Image | ImageError]]:
    """Each reference with its image, or with what is wrong with it, in order."""

    def read(ref: ImageRef) -> tuple[ImageRef, Image | ImageError]:
        try:
            return ref, read_ref(ref)
        except ImageError as error:
            return ref, error

    return prefetch(read, refs)
