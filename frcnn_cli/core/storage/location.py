"""Where the bytes of an image are, if they are not a file."""

from __future__ import annotations

from typing import Protocol, Self

# 64 million pixels of three 16-bit channels take 400 MB; what is longer than this is not an image that can be read.
MAX_BYTES = 1 << 30


class Location(Protocol):
    """An image behind a URL or inside another file. Hashable, and can be sent to other processes.

    `str` of it is how messages name it.
    """

    @property
    def name(self) -> str:
        """The name of the image without folders."""
        ...

    def read_bytes(self) -> bytes:
        """The content, encoded as in an image file.

        Raises:
            OSError, FrcnnError: it cannot be read.
        """
        ...

    def absolute(self) -> Self:
        """The same location for a process in another folder."""
        ...

    def exists(self) -> bool:
        """Whether the file that holds the image can be found from this machine, as far as that is known."""
        ...
