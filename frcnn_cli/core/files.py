"""Files: which paths may be read, and small files written atomically (the path holds the old file or a complete new
one, never a part)."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from frcnn_cli.core.errors import FrcnnError, explain_os_error

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def check_regular(path: Path, error_type: type[FrcnnError] = FrcnnError) -> Path:
    """Refuses devices, pipes and sockets, whose content may never come or never end; returns the path.

    Raises:
        FrcnnError (or `error_type`): the path is none of a file, a folder, or missing.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # what opens it explains
        return path
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise error_type(f"{path} is a device or a pipe, not a file", "Write its content to a file, and name that")
    return path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`: what the block writes there takes the place of `path` when the block ends.

    Raises:
        FrcnnError: the system refuses to write. What `path` held is kept.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise explain_os_error(error, path) from None
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomic(path: Path, content: bytes) -> None:
    """Writes a file atomically. Raises FrcnnError if the system refuses; what `path` held is kept."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def save_image(pixels: NDArray[np.uint8], path: Path) -> None:
    """Writes uint8 [H, W, 3] RGB pixels as an image file; the ending decides the format.

    Raises:
        FrcnnError: an unknown ending, or the system refuses to write.
    """
    from PIL import Image as Pillow

    kind = Pillow.registered_extensions().get(path.suffix.lower())
    if kind is None:
        raise FrcnnError(f"{path} does not end like an image file", "Write for example .jpg or .png")
    encoded = io.BytesIO()
    Pillow.fromarray(pixels).save(encoded, kind, quality=92)
    write_atomic(path, encoded.getvalue())
