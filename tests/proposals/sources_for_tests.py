"""Sources that keep the contract, and sources that break it in one way each."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from frcnn_cli.proposals.hook import Proposals, ProposalSource, option


def whole(image):
    return np.array([[0, 0, image.width, image.height]], np.float32)


@dataclass(frozen=True)
class Good(ProposalSource):
    """The whole image, and its left half."""

    name = "good"
    version = "1"
    share: float = option(0.5, help="width of the second box", minimum=0.1, maximum=1.0)
    count: int = option(3, help="a number")
    kind: Literal["a", "b"] = option("a", help="a word")
    sizes: tuple[int, ...] = option((1, 2), help="numbers", minimum=0)
    deep: bool = option(False, help="yes or no")
    where: Path | None = option(None, help="a path")

    def propose(self, image):
        left = [[0, 0, image.width * self.share, image.height]]
        return Proposals(np.concatenate([whole(image), np.array(left, np.float32)]), np.array([1, 2], np.float32))


@dataclass(frozen=True)
class Needy(ProposalSource):
    name = "needy"
    version = "1"
    path: Path = option(help="a file")

    def __post_init__(self):
        if self.path.name == "bad":
            raise ValueError("bad will not do")

    def propose(self, image):
        return whole(image)


_HOWS = {}  # by id, so that a source made of a lambda can be pickled


def breaking(how):
    """A source whose `propose` is `how(image)`."""
    _HOWS[id(how)] = how

    @dataclass(frozen=True)
    class Breaking(ProposalSource):
        name = "breaking"
        version = "1"

        def propose(self, image):
            return how(image)

        def __reduce__(self):
            return _breaking_again, (id(how),)

        def __eq__(self, other):
            return type(other).__name__ == "Breaking"

        __hash__ = None

    return Breaking()


def _breaking_again(number):
    return breaking(_HOWS[number])


def _random(image):
    return np.sort(np.random.default_rng().random((5, 4)).astype(np.float32), axis=1)


def _writes(image):
    image.pixels[:] = 0
    return whole(image)


def _needs_two_pixels(image):
    if image.width < 2:
        raise IndexError("too small")
    return whole(image)


def _only_colour(image):
    assert (image.pixels[..., 0] != image.pixels[..., 1]).any(), "gray"
    return whole(image)


def _not_wide(image):
    return whole(image) if image.width < 1000 else None


BROKEN = {
    "float64 boxes": (lambda image: whole(image).astype(np.float64), "float64"),
    "a list": (lambda image: [[0, 0, 1, 1]], "list"),
    "five columns": (lambda image: np.zeros((1, 5), np.float32), r"\[1, 5\]"),
    "NaN": (lambda image: whole(image) * np.nan, "NaN"),
    "inverted": (lambda image: whole(image)[:, [2, 3, 0, 1]], "x2 < x1"),
    "outside": (lambda image: whole(image) + 1, "outside"),
    "negative": (lambda image: whole(image) - 1, "outside"),
    "scores of another length": (
        lambda image: Proposals(whole(image), np.zeros(2, np.float32)),
        r"scores of float32 \[2\]",
    ),
    "float64 scores": (lambda image: Proposals(whole(image), np.zeros(1)), "scores of float64"),
    "NaN scores": (lambda image: Proposals(whole(image), np.full(1, np.nan, np.float32)), "scores with NaN"),
    "random": (_random, "different results"),
    "writes to the image": (_writes, "image was modified"),
    "fails on 1 x 1": (_needs_two_pixels, "1 x 1 image"),
    "fails on gray": (_only_colour, "gray"),
    "fails on wide": (_not_wide, "2000 x 3"),
}


@dataclass(frozen=True)
class Moody(ProposalSource):
    """Ends its process on an image that is 7 pixels wide, raises on one that is 8, sleeps a little otherwise."""

    name = "moody"
    version = "1"

    def propose(self, image):
        if image.width == 7:
            os._exit(3)
        if image.width == 8:
            raise RuntimeError("not this one")
        time.sleep(0.001 * image.height)
        return whole(image)


@dataclass(frozen=True)
class Sleepy(ProposalSource):
    """Sleeps for ten minutes on an image that is 7 pixels wide."""

    name = "sleepy"
    version = "1"

    def propose(self, image):
        if image.width == 7:
            time.sleep(600)
        return whole(image)
