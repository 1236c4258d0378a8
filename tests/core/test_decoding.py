"""Images as they come: each is right, or one clear error."""

from contextlib import suppress

import numpy as np
import pytest
from PIL import Image as Pillow

from frcnn_cli.core.decoding import ORIENTATION_TAG, digest_file, read_image
from frcnn_cli.core.errors import ImageError, UsageError

# A picture whose four quarters tell every turn and mirror apart: red, green / blue, white.
QUARTERS = np.zeros((40, 60, 3), np.uint8)
QUARTERS[:20, :30] = (200, 0, 0)
QUARTERS[:20, 30:] = (0, 200, 0)
QUARTERS[20:, :30] = (0, 0, 200)
QUARTERS[20:, 30:] = 255


def assert_quarters(pixels, tolerance=12):
    assert pixels.shape == QUARTERS.shape
    for y, x in ((8, 12), (8, 45), (30, 12), (30, 45)):
        np.testing.assert_allclose(pixels[y, x].astype(int), QUARTERS[y, x].astype(int), atol=tolerance)


# How a camera stores an upright scene under each EXIF orientation: the inverse of what a viewer does.
STORED = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: p.transpose(1, 0, 2)[::-1],
    7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
    8: lambda p: p.transpose(1, 0, 2)[:, ::-1],
}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(tmp_path, orientation):
    stored = Pillow.fromarray(np.ascontiguousarray(STORED[orientation](QUARTERS)))
    exif = stored.getexif()
    exif[ORIENTATION_TAG] = orientation
    stored.save(tmp_path / "a.jpg", exif=exif, quality=95, subsampling=0)
    image = read_image(tmp_path / "a.jpg")
    assert_quarters(image.pixels)
    assert image.record.orientation == orientation
    assert (image.record.height, image.record.width) == (40, 60)


@pytest.mark.parametrize(
    ("mode", "name"), [("RGB", "a.png"), ("RGBA", "a.png"), ("P", "a.png"), ("CMYK", "a.jpg"), ("RGB", "a.bmp")]
)
def test_colour_modes(tmp_path, mode, name):
    picture = Pillow.fromarray(QUARTERS).convert(mode)
    picture.save(tmp_path / name, **({"quality": 95, "subsampling": 0} if name.endswith("jpg") else {}))
    assert_quarters(read_image(tmp_path / name).pixels)


def test_gray_is_repeated(tmp_path):
    gray = np.arange(48 * 64, dtype=np.uint8).reshape(48, 64)
    Pillow.fromarray(gray).save(tmp_path / "gray.png")
    pixels = read_image(tmp_path / "gray.png").pixels
    assert pixels.shape == (48, 64, 3)
    assert all(np.array_equal(pixels[..., channel], gray) for channel in range(3))


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits_are_scaled_not_cut(tmp_path, ending):
    import cv2

    deep = np.array([[0, 257, 32896, 65535]], np.uint16)
    path = tmp_path / f"deep.{ending}"
    assert cv2.imwrite(str(path), deep)
    assert read_image(path).pixels[0, :, 0].tolist() == [0, 1, 128, 255]


def test_sixteen_bit_colour(tmp_path):
    import cv2

    deep = QUARTERS.astype(np.uint16) * 257
    assert cv2.imwrite(str(tmp_path / "deep.png"), deep[..., ::-1])
    assert_quarters(read_image(tmp_path / "deep.png").pixels, tolerance=1)


def test_one_pixel(tmp_path):
    Pillow.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "dot.png")
    assert read_image(tmp_path / "dot.png").pixels.tolist() == [[[1, 2, 3]]]


def test_twelve_megapixels(tmp_path):
    Pillow.new("RGB", (4000, 3000), (9, 8, 7)).save(tmp_path / "large.jpg")
    assert read_image(tmp_path / "large.jpg").pixels.shape == (3000, 4000, 3)


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_truncated_files_are_refused(tmp_path, ending):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"whole.{ending}"
    Pillow.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match=f"whole.{ending} is (truncated|damaged)"):
        read_image(path)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\xff\xd8\xff\xe0garbage", b"\x89PNG\r\n\x1a\n"])
def test_what_is_not_an_image_is_refused(tmp_path, content):
    path = tmp_path / "fake.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"fake\.jpg"):
        read_image(path)


def test_damaged_files_are_never_more_than_one_image(tmp_path):
    """A few hundred damaged pictures: each is read, or is an ImageError."""
    rng = np.random.default_rng(1)
    picture = Pillow.fromarray(QUARTERS)
    exif = picture.getexif()
    exif[ORIENTATION_TAG] = 6
    for name in ("a.jpg", "a.png", "a.tif", "a.gif", "a.webp", "a.bmp"):
        path = tmp_path / name
        picture.save(path, **({"exif": exif} if name in ("a.jpg", "a.webp") else {}))
        whole = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(60):
            damaged = whole.copy()
            damaged[rng.integers(0, len(whole), 6)] = rng.integers(0, 256, 6)
            path.write_bytes(damaged.tobytes())
            with suppress(ImageError):  # any other error fails the test
                assert read_image(path).pixels.dtype == np.uint8


def test_floating_point_and_missing_files_are_refused(tmp_path):
    Pillow.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(ImageError, match="floating-point"):
        read_image(tmp_path / "float.tif")
    with pytest.raises(ImageError, match="does not exist"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(tmp_path)


def test_the_digest_is_of_the_bytes(tmp_path, photo):
    assert read_image(photo).record.digest == digest_file(photo)
    copy = tmp_path / "copy.png"
    copy.write_bytes(photo.read_bytes())
    assert digest_file(copy) == digest_file(photo)


def test_pixels_cannot_be_written_to(photo):
    with pytest.raises(ValueError, match="read-only"):
        read_image(photo).pixels[0, 0] = 0


def test_an_eps_named_jpg_starts_no_other_program(tmp_path):
    """Pillow would run Ghostscript, whose PostScript could do anything."""
    mark = tmp_path / "ran"
    (tmp_path / "a.jpg").write_text(
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
        f"({mark}) (w) file closefile showpage\n%%EOF\n"
    )
    with pytest.raises(ImageError, match="is not an image that can be read"):
        read_image(tmp_path / "a.jpg")
    assert not mark.exists()


@pytest.mark.parametrize(
    "name", ["a.jpg", "a.png", "a.bmp", "a.dib", "a.tiff", "a.webp", "a.gif", "a.ppm", "a.tga", "a.jp2"]
)
def test_formats_that_are_decoded(tmp_path, name):
    Pillow.fromarray(QUARTERS).save(tmp_path / name)
    assert_quarters(read_image(tmp_path / name).pixels, tolerance=40)


def test_a_small_file_that_claims_many_pixels(tmp_path, monkeypatch):
    Pillow.new("L", (13_300, 13_300)).save(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size < 200_000
    with pytest.raises(ImageError, match="13300 x 13300 pixels, more than 64,000,000.*set FRCNN_MAX_PIXELS"):
        read_image(tmp_path / "a.png")
    Pillow.new("L", (30, 40)).save(tmp_path / "b.png")
    monkeypatch.setenv("FRCNN_MAX_PIXELS", "1199")
    with pytest.raises(ImageError, match="30 x 40 pixels, more than 1,199"):
        read_image(tmp_path / "b.png")
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 100)  # Pillow's own limit, which the variable raises too
    monkeypatch.setenv("FRCNN_MAX_PIXELS", "1200")
    assert read_image(tmp_path / "b.png").pixels.shape == (40, 30, 3)
    for wrong in ("", "0", "many", "1e9", "-3"):
        monkeypatch.setenv("FRCNN_MAX_PIXELS", wrong)
        with pytest.raises(UsageError, match="FRCNN_MAX_PIXELS is"):
            read_image(tmp_path / "b.png")
