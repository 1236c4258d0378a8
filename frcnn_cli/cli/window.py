"""A picture in a window, or in a file where there is no display."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from frcnn_cli.cli.display import Display

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def present(display: Display, picture: NDArray[np.uint8], title: str, stem: str, force: bool) -> None:
    """Opens a window and waits for a key; without a display, saves STEM.jpg in this folder and says so."""
    from frcnn_cli.picture import has_display, save_picture, show

    if has_display():
        show(picture, title)
        return
    path = _free_path(stem, force)
    save_picture(picture, path)
    display.warn(f"there is no display to open a window on; the picture is in {path}")


def _free_path(stem: str, force: bool) -> Path:
    """STEM.jpg, or STEM-2.jpg, ... if that is taken."""
    path, number = Path(f"{stem}.jpg"), 1
    while path.exists() and not force:
        number += 1
        path = Path(f"{stem}-{number}.jpg")
    return path
