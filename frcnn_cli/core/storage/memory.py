"""Images whose content was sent from another machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Self


@dataclass(frozen=True, order=True)
class Sent:
    """The content of an image, and where it came from."""

    place: str
    content: bytes = field(repr=False)

    def __str__(self) -> str:
        return self.place

    @property
    def name(self) -> str:
        return PurePath(self.place).name

    def read_bytes(self) -> bytes:
        return self.content

    def absolute(self) -> Self:
        return self

    def exists(self) -> bool:
        return True
