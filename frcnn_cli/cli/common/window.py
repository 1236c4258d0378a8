"""An image in a window, or in a file if there is no display."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from frcnn_cli.cli.common.console import Console

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def present(console: Console, pixels: NDArray[np.uint8], title: str, stem: str, force: bool) -> None:
    """Opens a window and waits for a key; without a display, saves STEM.jpg in the current folder and reports it."""
    from frcnn_cli.core.files import save_image
    from frcnn_cli.system.window import has_display, show

    if has_display():
        show(pixels, title)
        return
    path = _free_path(stem, force)
    save_image(pixels, path)
    console.warn(f"there is no display for a window; the picture is in {path}")


def _free_path(stem: str, force: bool) -> Path:
    """STEM.jpg, or STEM-2.jpg, ... if it exists."""
    path, number = Path(f"{stem}.jpg"), 1
    while path.exists() and not force:
        number += 1
        path = Path(f"{stem}-{number}.jpg")
    return path
