"""Small pictures in memory, and archives and tables of them."""

import io
import tarfile

import numpy as np
from PIL import Image


def picture(value: int) -> bytes:
    """A PNG of 30 x 20 pixels of one gray."""
    encoded = io.BytesIO()
    Image.fromarray(np.full((20, 30, 3), value, np.uint8)).save(encoded, "PNG")
    return encoded.getvalue()


def archive(path, contents, mode="w"):
    """A tar archive with these members, (name, bytes), in this order."""
    with tarfile.open(path, mode) as tar:
        for name, content in contents:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path
