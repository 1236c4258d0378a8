"""Joining two tables of images by key, with a check of their content."""

from __future__ import annotations

from collections.abc import Sequence

from frcnn_cli.core.errors import FrcnnError, MismatchError
from frcnn_cli.core.image import ImageRecord
from frcnn_cli.core.shards import SHARD
from frcnn_cli.store.reader import StageFile


class Lookup:
    """Finds images in a table by key, or by content if the table lacks the key: the key of a file in a folder is
    `000004.jpg`, in a data set `000004`.

    Args:
        have_name: the name of the table in error messages (its path, as the user typed it).
    """

    def __init__(self, have: Sequence[ImageRecord], have_name: str) -> None:
        self.have = have
        self.have_name = have_name
        self._by_key = {image.key: i for i, image in enumerate(have)}
        self._by_digest = {image.digest: i for i, image in enumerate(have)}

    def find(self, image: ImageRecord, wanted_name: str) -> int | None:
        """The index of the image, or None. Raises MismatchError if its key has other content."""
        i = self._by_key.get(image.key)
        if i is not None and self.have[i].digest != image.digest:
            raise MismatchError(
                f"image {image.key!r} of {self.have_name} differs in content from that in {wanted_name}",
                f"Compute {self.have_name} again from the present images",
            )
        return i if i is not None else self._by_digest.get(image.digest)


def join(wanted: Sequence[ImageRecord], have: Sequence[ImageRecord], wanted_name: str, have_name: str) -> list[int]:
    """For each wanted image, the index of the same image in `have`.

    Raises:
        MismatchError: `have` lacks an image, or holds one with different content.
    """
    lookup = Lookup(have, have_name)
    found = [(image.key, lookup.find(image, wanted_name)) for image in wanted]
    check_complete([key for key, i in found if i is None], len(wanted), wanted_name, have_name)
    return [i for _, i in found if i is not None]


def check_complete(
    absent: Sequence[str], wanted: int, wanted_name: str, have_name: str, or_else: str = "remove them from the split"
) -> None:
    """Raises MismatchError if `have_name` lacks images.

    Args:
        absent: the keys of the images that it lacks, of `wanted` images.
        or_else: what can be done about images that cannot be read, besides fixing them.
    """
    if absent and (shard := _shard(have_name)) is not None:
        raise MismatchError(
            f"{have_name} is shard {shard}, and lacks {len(absent)} of the {wanted} images of {wanted_name}",
            "Name all shards: a pattern in quotes ('FILE-*.h5'), or names with commas",
        )
    if len(absent) == wanted and wanted:
        raise MismatchError(
            f"{have_name} holds none of the {wanted} images of {wanted_name}, e.g. {absent[0]!r}",
            f"Use --split to name the split that {have_name} was made from, or compute it from these images",
        )
    if absent:
        raise MismatchError(
            f"{have_name} lacks {len(absent)} of the {wanted} images of {wanted_name}, e.g. {absent[0]!r}",
            f"Compute {have_name} from the same images. If some cannot be read, fix them or {or_else}",
        )


def _shard(name: str) -> str | None:
    """Which shard a file is, if `name` is the path of one."""
    try:
        with StageFile(name) as file:
            return str(file.provenance[SHARD]) if SHARD in file.provenance else None
    except FrcnnError:
        return None
