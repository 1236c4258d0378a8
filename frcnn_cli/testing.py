"""A conformance test for proposal sources: checks everything that the stages rely on.

from frcnn_cli.testing import check_proposal_source

def test_my_source():
    check_proposal_source(MySource())
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.core.image import Image
from frcnn_cli.proposals.limits import validated
from frcnn_cli.proposals.propose import propose
from frcnn_cli.proposals.registry import load_registry
from frcnn_cli.proposals.source import Proposals, ProposalSource


def check_proposal_source(source: ProposalSource) -> None:
    """Runs a source on ordinary and extreme images, and checks what `ProposalSource` requires.

    Raises:
        UsageError, FrcnnError: options that cannot be restored, or a source that cannot be prepared.
        AssertionError: the first violation, with its image: a wrong dtype or shape, NaN, inverted boxes or boxes
            outside the image, results that differ between two calls, a modified image, a failure on a 1 x 1, gray or
            extremely wide image, options that change when they are recorded and restored, or a source that cannot be
            sent to a worker process.
    """
    _check_declaration(source)
    source.prepare()
    found = [(image, _check_on(source, image)) for image in test_images()]
    scored = {proposals.scores is not None for _, proposals in found if len(proposals.boxes)}
    assert len(scored) < 2, f"source {source.name!r} gives scores for some images and none for others"


def test_images() -> Iterator[Image]:
    """The images that sources are tested on; each key states what is special."""
    rng = np.random.default_rng(20150430)
    noise = rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)
    scene = np.full((96, 128, 3), 200, np.uint8)
    scene[20:60, 30:80] = (220, 40, 40)
    scene[50:90, 70:120] = (40, 60, 200)
    gray = np.repeat(rng.integers(0, 256, (64, 80, 1), dtype=np.uint8), 3, axis=2)
    pictures: dict[str, NDArray[np.uint8]] = {
        "an ordinary image": scene,
        "noise": noise,
        "a gray image": gray,
        "an image of one colour": np.full((50, 70, 3), 127, np.uint8),
        "a 1 x 1 image": np.full((1, 1, 3), 9, np.uint8),
        "a 2000 x 3 image": rng.integers(0, 256, (3, 2000, 3), dtype=np.uint8),
        "a 3 x 2000 image": rng.integers(0, 256, (2000, 3, 3), dtype=np.uint8),
    }
    for key, pixels in pictures.items():
        yield Image.from_array(pixels, key)


test_images.__test__ = False  # type: ignore[attr-defined]  # pytest: not a test


def _check_declaration(source: ProposalSource) -> None:
    assert isinstance(source, ProposalSource), f"{source!r} is not a ProposalSource"
    for attribute in ("name", "version"):
        assert isinstance(getattr(source, attribute, None), str), (
            f"{type(source).__name__} has no {attribute} (a string)"
        )
    described = source.described()
    again = type(source).configured(described["options"], load_registry().build)
    assert again == source, f"options change when they are recorded and restored: {source} became {again}"
    try:
        copied = pickle.loads(pickle.dumps(source))
    except Exception as error:
        raise AssertionError(f"{source} cannot be sent to a worker process: {error}") from error
    assert copied == source, f"{source} changes when pickled, so it cannot go to a worker process"


def _check_on(source: ProposalSource, image: Image) -> Proposals:
    where = f"source {source.name!r} on {image.key}"
    # Callers may pass a writable array, which the source must not modify.
    pixels = image.pixels.copy()
    writable = Image(image.pixels, image.record)
    object.__setattr__(writable, "pixels", pixels)
    try:
        first = source.propose(writable)
        assert np.array_equal(pixels, image.pixels), f"{where}: the image was modified"
        second = source.propose(writable)
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(f"{where} failed: {type(error).__name__}: {error}") from error
    assert np.array_equal(pixels, image.pixels), f"{where}: the image was modified"
    try:
        first, second = (validated(answer, image, source.name) for answer in (first, second))
        propose(image, source)  # with read-only pixels, as in the stages
    except Exception as error:
        raise AssertionError(str(error)) from error
    assert _equal(first, second), f"{where}: two calls gave different results"
    return first


def _equal(a: Proposals, b: Proposals) -> bool:
    if (a.scores is None) != (b.scores is None):
        return False
    same_scores = a.scores is None or b.scores is None or np.array_equal(a.scores, b.scores)
    return np.array_equal(a.boxes, b.boxes) and same_scores
