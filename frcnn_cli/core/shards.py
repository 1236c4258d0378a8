"""Shards: the part of the images that one machine computes.

An image belongs to a shard by a hash of its key, so every machine finds its part from the same command line, and images
that are added later do not move the others.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from frcnn_cli.core.errors import UsageError
from frcnn_cli.core.image import ImageRef

SHARD = "shard"  # the name of the entry in a provenance
MAX_SHARDS = 1_000_000


@dataclass(frozen=True, order=True)
class Shard:
    """Shard `number` of `count`, from 1. It is written 2/8."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises UsageError if the text is not of the form 2/8."""
        found = re.fullmatch(r"(\d{1,7})/(\d{1,7})", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]) <= MAX_SHARDS:
            raise UsageError(f"{text!r} is not a shard", "Write the number of the shard and their count, such as 2/8")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def holds(self, key: str) -> bool:
        """Whether the image with this key belongs to the shard."""
        digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.count == self.number - 1

    def of(self, refs: Sequence[ImageRef]) -> list[ImageRef]:
        """The images that belong to the shard."""
        return [ref for ref in refs if self.holds(ref.key)]


def in_shard(refs: Sequence[ImageRef], shard: str | None) -> list[ImageRef]:
    """The images that belong to a shard, which is written 2/8; all if None."""
    return list(refs) if shard is None else Shard.parse(shard).of(refs)


def recorded(shard: str | None) -> dict[str, str]:
    """What the provenance of a shard's file states beside everything else."""
    return {} if shard is None else {SHARD: str(Shard.parse(shard))}
