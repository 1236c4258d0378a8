"""Pictures with boxes on them: drawn, saved, shown in a window."""

from __future__ import annotations

import colorsys
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from frcnn_cli.errors import explain_os_error

Colour = tuple[int, int, int]


def draw_boxes(
    pixels: NDArray[np.uint8], boxes: NDArray[np.float32], texts: Sequence[str], colours: Sequence[Colour]
) -> NDArray[np.uint8]:
    """The picture with boxes, each with its text (perhaps none) in its colour, the first on top.

    Args:
        pixels: uint8 [H, W, 3] RGB; not changed.
        boxes: float32 [N, 4], x1 y1 x2 y2.

    Returns:
        uint8 [H, W, 3].
    """
    picture = Pillow.fromarray(np.array(pixels))
    canvas = ImageDraw.Draw(picture)
    short = min(picture.size)
    width = max(1, round(short / 240))
    font = ImageFont.load_default(size=max(9, round(short / 36)))
    for box, text, colour in list(zip(boxes, texts, colours, strict=True))[::-1]:
        x1, y1, x2, y2 = (float(v) for v in box)
        # Pillow counts both corners as inside; ours end before x2, y2.
        canvas.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=colour, width=width)
        if not text:
            continue
        _, _, right, bottom = canvas.textbbox((0, 0), text, font=font)
        left = min(max(0.0, x1), max(0.0, picture.width - right - 4))
        top = y1 - bottom - 3 if y1 > bottom + 3 else y1
        canvas.rectangle((left, top, left + right + 3, top + bottom + 2), fill=colour)
        dark = sum(c * w for c, w in zip(colour, (0.3, 0.59, 0.11), strict=True)) < 140
        canvas.text((left + 2, top), text, font=font, fill=(255, 255, 255) if dark else (0, 0, 0))
    return np.asarray(picture)


def contact_sheet(pictures: Sequence[NDArray[np.uint8]], columns: int) -> NDArray[np.uint8]:
    """Pictures side by side in cells of one size, row by row, on white.

    Args:
        pictures: each uint8 [h, w, 3].
    """
    height, width = (max(picture.shape[axis] for picture in pictures) + 6 for axis in (0, 1))
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        top = i // columns * height + (height - picture.shape[0]) // 2
        left = i % columns * width + (width - picture.shape[1]) // 2
        sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return sheet


def class_colour(label: int, count: int) -> Colour:
    """A colour for each class, spread around the colour wheel."""
    r, g, b = colorsys.hsv_to_rgb(label / max(count, 1), 0.85, 0.95)
    return round(255 * r), round(255 * g), round(255 * b)


def save_picture(pixels: NDArray[np.uint8], path: Path) -> None:
    """Writes a picture; its ending decides the format. Raises FrcnnError where that is refused."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(pixels).save(path, quality=92)
    except OSError as error:
        raise explain_os_error(error, path) from None


def has_display() -> bool:
    """Whether a window can be opened here."""
    if platform.system() in ("Windows", "Darwin"):
        return True
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    # A display may be named and gone (ssh, tmux); OpenCV's Qt would end the process, so let it end another one.
    probe = "import cv2; cv2.namedWindow('probe', cv2.WINDOW_GUI_NORMAL)"
    try:
        return subprocess.run([sys.executable, "-c", probe], capture_output=True, timeout=20).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def show(pixels: NDArray[np.uint8], title: str) -> None:
    """Opens a window and waits until a key is pressed or it is closed."""
    os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")  # OpenCV's Qt complains of fonts it does not need
    import cv2

    cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
    cv2.resizeWindow(title, min(pixels.shape[1], 1600), min(pixels.shape[0], 900))
    cv2.imshow(title, pixels[..., ::-1])
    while cv2.waitKey(50) < 0 and cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) >= 1:
        pass
    cv2.destroyWindow(title)
