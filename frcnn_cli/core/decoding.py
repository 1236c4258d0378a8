"""Image files to pixels: always uint8 RGB, upright.

Pillow decodes, because it refuses a file that it cannot read completely: OpenCV returns the upper half of a truncated
JPEG as if it were the image.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageOps, UnidentifiedImageError

from frcnn_cli.core.errors import ImageError, UsageError
from frcnn_cli.core.files import check_regular
from frcnn_cli.core.image import Image, ImageRecord, ImageRef
from frcnn_cli.core.storage.location import Location

# A file of a few kilobytes may claim any number of pixels. 64 million take 190 MB decoded and 770 MB normalised.
MAX_PIXELS = 64_000_000
MAX_PIXELS_VARIABLE = "FRCNN_MAX_PIXELS"

# Pillow can read more, some of it by starting other programs: an EPS runs Ghostscript, whatever its file is called.
FORMATS = ("JPEG", "PNG", "BMP", "DIB", "TIFF", "WEBP", "GIF", "PPM", "JPEG2000", "TGA", "AVIF")

ORIENTATION_TAG = 0x0112

# The endings that Pillow registers for these formats (a test compares them). Folders are searched for files of these
# endings; a file that is named explicitly is tried whatever its ending.
IMAGE_ENDINGS = frozenset(
    {".apng", ".avif", ".avifs", ".bmp", ".dib", ".gif", ".icb", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe"}
    | {".jpeg", ".jpf", ".jpg", ".jpx", ".pbm", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff"}
    | {".vda", ".vst", ".webp"}
)

AnyImage = Image | str | Path | Pillow.Image | NDArray[np.uint8]


def max_pixels() -> int:
    """The most pixels that an image may have: `MAX_PIXELS`, or what the environment variable FRCNN_MAX_PIXELS states.

    Raises:
        UsageError: the variable is not a whole number above 0.
    """
    stated = os.environ.get(MAX_PIXELS_VARIABLE)
    if stated is None:
        return MAX_PIXELS
    if not stated.isdecimal() or not 1 <= len(stated) <= 12 or int(stated) < 1:
        raise UsageError(f"{MAX_PIXELS_VARIABLE} is {stated!r}", "Set it to a number of pixels, or remove it")
    Pillow.MAX_IMAGE_PIXELS = None  # Pillow has a limit of its own, about 180 million
    return int(stated)


def as_image(image: AnyImage) -> Image:
    """An `Image` from whatever a caller has at hand.

    Args:
        image: an `Image`; the path of a file; a PIL image; or uint8 [H, W, 3] RGB or [H, W] gray.

    Raises:
        ImageError: the file cannot be read.
        TypeError: something else.
        ValueError: an array of another shape or dtype.
    """
    if isinstance(image, Image):
        return image
    if isinstance(image, (str, Path)):
        return read_image(image)
    if isinstance(image, Pillow.Image):
        image = _to_rgb(ImageOps.exif_transpose(image), Path("image"))
    if isinstance(image, np.ndarray):
        return Image.from_array(image)
    raise TypeError(f"expected an image, a path, a PIL image or an array, got {type(image).__name__}")


def digest_bytes(content: bytes) -> str:
    """The content hash of the `images/` table: BLAKE2b-128 of the file's bytes, hexadecimal."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def digest_file(location: Path | Location) -> str:
    """The content hash of an image that has not been read. Raises ImageError if it cannot be read."""
    return digest_bytes(_read_bytes(location))


def read_image(path: str | Path | Location, key: str | None = None) -> Image:
    """Decodes one image file, or an image stored elsewhere.

    EXIF orientation is undone; gray is repeated to three channels; alpha is dropped; CMYK is converted; 16-bit values
    are divided by 257, so that 65535 becomes 255; of an animation, the first frame is used.

    Args:
        key: the key of the image; the file's name by default.

    Raises:
        ImageError: missing, not an image, truncated, or more than `max_pixels()`.
    """
    location = Path(path) if isinstance(path, str) else path
    content = _read_bytes(location)
    with _opened(content, location) as opened:
        orientation = _orientation(opened)
        pixels = _to_rgb(ImageOps.exif_transpose(opened), location)
    height, width = pixels.shape[:2]
    record = ImageRecord(location.name if key is None else key, height, width, digest_bytes(content), orientation)
    return Image(pixels, record, location if isinstance(location, Path) else None)


def read_ref(ref: ImageRef) -> Image:
    """`read_image` for a reference."""
    return read_image(ref.location, ref.key)


def read_record(ref: ImageRef) -> ImageRecord:
    """The record of an image from its file's header; damage further on is not noticed.

    Raises:
        ImageError: missing, not an image, or more than `max_pixels()`.
    """
    content = _read_bytes(ref.location)
    with _opened(content, ref.location) as opened:
        orientation = _orientation(opened)
        width, height = opened.size if orientation < 5 else opened.size[::-1]
    return ImageRecord(ref.key, height, width, digest_bytes(content), orientation)


def identify(ref: ImageRef) -> ImageRecord:
    """Key and content hash of an image without decoding anything; height and width are 0.

    Raises:
        ImageError: the file cannot be read.
    """
    return ImageRecord(ref.key, 0, 0, digest_file(ref.location))


@contextmanager
def _opened(content: bytes, path: Path | Location) -> Iterator[Pillow.Image]:
    """Opens an image of acceptable size; whatever Pillow reports becomes an ImageError."""
    limit = max_pixels()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about bombs below our own limit, and about unusual EXIF
            with Pillow.open(io.BytesIO(content), formats=FORMATS) as opened:
                if opened.width * opened.height > limit:
                    raise ImageError(
                        f"{path} has {opened.width} x {opened.height} pixels, more than {limit:,}",
                        f"Scale it down, or set {MAX_PIXELS_VARIABLE} to a larger number",
                    )
                yield opened
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(
            f"{path} is not an image that can be read", "Convert it to JPEG or PNG, or remove it"
        ) from None
    except Pillow.DecompressionBombError as error:
        raise ImageError(f"{path} is too large ({error})", "Scale it down") from None
    except OSError as error:  # a file type that Pillow recognises but cannot read (HDF5, for example)
        if "cannot find loader" in str(error):
            raise ImageError(f"{path} is not an image that can be read", "Convert it to JPEG or PNG") from None
        raise _damaged(path, error) from None
    except Exception as error:  # Pillow reports damage with many exception types
        raise _damaged(path, error) from None


def _damaged(path: Path | Location, error: Exception) -> ImageError:
    reason = "truncated" if "truncated" in str(error).lower() else f"damaged ({error})"
    return ImageError(f"{path} is {reason}", "Get the file again, or remove it")


def _orientation(opened: Pillow.Image) -> int:
    orientation = opened.getexif().get(ORIENTATION_TAG, 1)
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def _read_bytes(path: Path | Location) -> bytes:
    try:
        return (check_regular(path, ImageError) if isinstance(path, Path) else path).read_bytes()
    except FileNotFoundError:
        raise ImageError(f"{path} does not exist", "Check the path") from None
    except OSError as error:
        raise ImageError(f"{path} cannot be read ({error.strerror})", "Check the file and its permissions") from None


def _to_rgb(image: Any, path: Path | Location) -> NDArray[np.uint8]:
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError(f"{path} holds 32-bit values", "Convert it to 8 or 16 bits per channel")
        gray = ((values + 128) // 257).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    if image.mode == "F":
        raise ImageError(f"{path} holds floating-point values", "Convert it to 8 or 16 bits per channel")
    return np.array(image.convert("RGB"))
