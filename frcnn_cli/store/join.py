"""Joining two tables of images: by key, checked by content."""

from __future__ import annotations

from collections.abc import Sequence

from frcnn_cli.errors import MismatchError
from frcnn_cli.image import ImageRecord


def join(wanted: Sequence[ImageRecord], have: Sequence[ImageRecord], wanted_name: str, have_name: str) -> list[int]:
    """For each wanted image the index of the same image in `have`.

    The same key must come with the same content. A key that `have` lacks is looked for by content: a folder calls
    `000004.jpg` what a data set calls `000004`.

    Args:
        wanted_name, have_name: how to call the two in an error (paths, as the user typed them).

    Raises:
        MismatchError: an image with other content, or that `have` lacks.
    """
    by_key = {image.key: i for i, image in enumerate(have)}
    by_digest = {image.digest: i for i, image in enumerate(have)}
    found = []
    absent = []
    for image in wanted:
        i = by_key.get(image.key)
        if i is not None and have[i].digest != image.digest:
            raise MismatchError(
                f"image {image.key!r} of {have_name} is another picture than in {wanted_name} (its content differs)",
                f"Make {have_name} again from the present images",
            )
        i = i if i is not None else by_digest.get(image.digest)
        if i is None:
            absent.append(image.key)
        else:
            found.append(i)
    if absent:
        raise MismatchError(
            f"{have_name} lacks {len(absent)} of the {len(wanted)} images of {wanted_name}, e.g. {absent[0]!r}",
            f"Make {have_name} from the same images",
        )
    return found
