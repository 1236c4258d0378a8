"""Image windows on the desktop."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import numpy as np
from numpy.typing import NDArray


def has_display() -> bool:
    """Whether a window can be opened here."""
    if platform.system() != "Darwin" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    # The display may be configured but gone (ssh, tmux), or this may be opencv-contrib-python-headless, which has no
    # windows. OpenCV's Qt ends the process if there is no display, so another one probes.
    probe = "import cv2; cv2.namedWindow('probe', cv2.WINDOW_GUI_NORMAL)"
    try:
        return subprocess.run([sys.executable, "-c", probe], capture_output=True, timeout=20).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def show(pixels: NDArray[np.uint8], title: str) -> None:
    """Opens a window with uint8 [H, W, 3] RGB pixels; returns when a key is pressed or the window is closed."""
    os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")  # OpenCV's Qt warns about fonts it does not need
    import cv2

    cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
    cv2.resizeWindow(title, min(pixels.shape[1], 1600), min(pixels.shape[0], 900))
    cv2.imshow(title, pixels[..., ::-1])
    while cv2.waitKey(50) < 0 and cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) >= 1:
        pass
    cv2.destroyWindow(title)
