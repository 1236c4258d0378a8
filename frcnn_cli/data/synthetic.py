"""A small synthetic data set in VOC layout, for `frcnn demo` and the tests: textured shapes on cluttered backgrounds.

Four classes (disc, square, triangle, star), rotated, in many sizes and colours, filled with stripes, checks, dots or
noise, and overlapping; some images are gray and some are empty. Everything is determined by one seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFilter

CLASSES = ("disc", "square", "star", "triangle")
_EMPTY_SHARE = 0.04
_GRAY_SHARE = 0.08
_MIN_VISIBLE = 0.6  # share of an object that later objects leave uncovered


@dataclass(frozen=True)
class _Shape:
    name: str
    mask: NDArray[np.bool_]  # [H, W]

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """xmin ymin xmax ymax in VOC's convention: 1-based, inside the box."""
        ys, xs = np.nonzero(self.mask)
        return int(xs.min()) + 1, int(ys.min()) + 1, int(xs.max()) + 1, int(ys.max()) + 1


def make_dataset(
    folder: Path, train: int = 260, test: int = 80, seed: int = 0, size: tuple[int, int] = (200, 150)
) -> None:
    """Writes images, annotations and the splits `trainval` and `test`.

    Args:
        train, test: number of images of each split. size: mean width and height of an image; both vary by 10%.
    """
    for sub in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    keys = [f"{i:04d}" for i in range(train + test)]
    for i, key in enumerate(keys):
        rng = np.random.default_rng([seed, i])
        pixels, shapes = _scene(rng, size)
        Pillow.fromarray(pixels).save(folder / "JPEGImages" / f"{key}.jpg", quality=95)
        (folder / "Annotations" / f"{key}.xml").write_text(_xml(key, pixels, shapes))
    for split, members in (("trainval", keys[:train]), ("test", keys[train:])):
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(members) + "\n")


def _scene(rng: np.random.Generator, size: tuple[int, int]) -> tuple[NDArray[np.uint8], list[_Shape]]:
    width, height = (round(side * rng.uniform(0.9, 1.1)) for side in size)
    if rng.random() < 0.5:
        width, height = height, width
    canvas = _background(rng, height, width)
    shapes: list[_Shape] = []
    wanted = 0 if rng.random() < _EMPTY_SHARE else int(rng.integers(1, 6))
    for _ in range(4 * wanted):
        if len(shapes) == wanted:
            break
        name = CLASSES[rng.integers(len(CLASSES))]
        mask = _mask(rng, name, height, width)
        if _crowds(mask, shapes):
            continue
        shapes = [_Shape(shape.name, shape.mask & ~mask) for shape in shapes] + [_Shape(name, mask)]
        _paint(rng, canvas, mask)
    pixels = np.clip(canvas + rng.normal(0, 4, canvas.shape), 0, 255).astype(np.uint8)
    if rng.random() < _GRAY_SHARE:
        pixels = np.asarray(Pillow.fromarray(pixels).convert("L"))
    return pixels, shapes


def _crowds(mask: NDArray[np.bool_], shapes: list[_Shape]) -> bool:
    """Whether a new shape is too small, or would cover too much of another."""
    if mask.sum() < 300:
        return True
    return any((shape.mask & ~mask).sum() < _MIN_VISIBLE * shape.mask.sum() for shape in shapes)


def _background(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float64]:
    """A smooth two-colour background with clutter: lines and arcs, which belong to no class."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    angle = rng.uniform(0, 2 * np.pi)
    blend = (0.5 + 0.5 * np.sin(3 * (x * np.cos(angle) + y * np.sin(angle)) + angle))[..., None]
    low, high = rng.uniform(70, 190, (2, 3))
    ground = Pillow.fromarray((low * blend + high * (1 - blend)).astype(np.uint8))
    draw = ImageDraw.Draw(ground)
    for _ in range(rng.integers(4, 12)):
        colour = tuple(int(c) for c in rng.integers(40, 220, 3))
        x1, y1 = int(rng.integers(0, width)), int(rng.integers(0, height))
        x2, y2 = x1 + int(rng.integers(-50, 50)), y1 + int(rng.integers(-50, 50))
        if rng.random() < 0.6:
            draw.line((x1, y1, x2, y2), fill=colour, width=int(rng.integers(1, 4)))
        else:
            draw.arc((min(x1, x2), min(y1, y2), max(x1, x2) + 1, max(y1, y2) + 1), 0, 200, fill=colour, width=2)
    return np.asarray(ground.filter(ImageFilter.GaussianBlur(0.7))).astype(np.float64)


def _mask(rng: np.random.Generator, name: str, height: int, width: int) -> NDArray[np.bool_]:
    """The pixels of a shape of random size, position and rotation, which may reach slightly over the border."""
    radius = rng.uniform(0.13, 0.32) * min(height, width)
    centre = rng.uniform(0.7 * radius, [width - 0.7 * radius, height - 0.7 * radius])
    mask = Pillow.new("1", (width, height))
    draw = ImageDraw.Draw(mask)
    if name == "disc":
        draw.ellipse([*(centre - radius), *(centre + radius)], fill=1)
    else:
        corners = {"square": 4, "triangle": 3, "star": 10}[name]
        turn = rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(corners) / corners
        reach = radius * np.where(np.arange(corners) % 2, 0.42, 1.0) if name == "star" else np.full(corners, radius)
        points = centre + reach[:, None] * np.stack([np.cos(turn), np.sin(turn)], axis=1)
        draw.polygon([tuple(point) for point in points], fill=1)
    return np.asarray(mask)


def _paint(rng: np.random.Generator, canvas: NDArray[np.float64], mask: NDArray[np.bool_]) -> None:
    """Fills a shape with a textured colour that contrasts with its background."""
    ground = canvas[mask].mean(axis=0)
    colour = rng.uniform(20, 235, 3)
    while np.abs(colour - ground).max() < 70:
        colour = rng.uniform(20, 235, 3)
    y, x = np.mgrid[0 : mask.shape[0], 0 : mask.shape[1]]
    period = rng.uniform(5, 9)
    angle = rng.uniform(0, np.pi)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    texture = [
        np.sin(2 * np.pi * along / period),  # stripes
        np.sign(np.sin(2 * np.pi * along / period) * np.sin(2 * np.pi * across / period)),  # checks
        np.sin(2 * np.pi * along / period) * np.sin(2 * np.pi * across / period),  # dots
        rng.normal(0, 1, mask.shape),  # noise
    ][rng.integers(4)]
    canvas[mask] = np.clip(colour + (22 * texture)[mask][:, None], 0, 255)


def _xml(key: str, pixels: NDArray[np.uint8], shapes: list[_Shape]) -> str:
    tags = ("xmin", "ymin", "xmax", "ymax")
    objects = "".join(
        f"  <object>\n    <name>{escape(shape.name)}</name>\n    <difficult>0</difficult>\n    <bndbox>"
        + "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(tags, shape.corners, strict=True))
        + "</bndbox>\n  </object>\n"
        for shape in shapes
    )
    depth = 1 if pixels.ndim == 2 else 3
    return (
        f"<annotation>\n  <filename>{key}.jpg</filename>\n  <size><width>{pixels.shape[1]}</width>"
        f"<height>{pixels.shape[0]}</height><depth>{depth}</depth></size>\n{objects}</annotation>\n"
    )
