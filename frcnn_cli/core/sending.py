"""Images that tasks on other machines read: at the same path there, or sent along."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from frcnn_cli.core.errors import FrcnnError, ImageError
from frcnn_cli.core.image import ImageRef
from frcnn_cli.core.storage.memory import Sent


def for_tasks(refs: Sequence[ImageRef], send: bool) -> list[ImageRef]:
    """The same images for a process in another folder or on another machine.

    Args:
        send: replace each location by its content. An image that cannot be read keeps its location, so that the task
            reports it.
    """
    here = [replace(ref, location=ref.location.absolute()) for ref in refs]
    return [_with_content(ref) for ref in here] if send else here


def _with_content(ref: ImageRef) -> ImageRef:
    try:
        return replace(ref, location=Sent(str(ref.location), ref.location.read_bytes()))
    except (OSError, ImageError):
        return ref


def naming_machine(ref: ImageRef, error: FrcnnError) -> FrcnnError:
    """The error of an image, with the name of this machine if its file is missing here; it may exist on others."""
    if ref.location.exists():
        return error
    return ImageError(
        f"{error.what} (on {os.uname().nodename})",
        "Images must be at the same path on all machines; or add --send-images",
    )
