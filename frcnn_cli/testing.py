"""Conformance tests for plugins: they check everything that the stages rely on.

from frcnn_cli.testing import check_backbone, check_proposal_source

def test_my_source():
    check_proposal_source(MySource())

def test_my_backbone():
    check_backbone("my:net")
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

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


def check_backbone(name: str) -> None:
    """Builds a backbone with random weights and checks what `Backbone` requires.

    Args:
        name: FAMILY:NAME of an installed plugin, or a built-in backbone.

    Raises:
        UsageError, FrcnnError: there is no such network, or it cannot be built.
        AssertionError: the first violation: maps of another shape than stated, maps that differ between two calls or
            with the other images of the batch, hidden layers that do not read pooled RoIs, weights that are not
            float32 or get no gradient, layers or frozen modules that do not exist, or other weights when it is built
            without memory.
    """
    import torch

    from frcnn_cli.features.backbones import build

    made = build(name)
    conv = made.conv.eval()
    for width, height in ((224, 224), (97, 131), (64, 200)):
        with torch.no_grad():
            images = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
            maps = conv(images)
            _check_maps(name, made, maps, height, width)
            assert torch.equal(maps, conv(images)), f"{name}: two calls gave different maps"
            torch.testing.assert_close(
                conv(images[:1]), maps[:1], rtol=1e-3, atol=1e-3, msg=f"{name}: a map depends on the rest of the batch"
            )
    _check_hidden(name, made)
    assert 0 <= made.frozen <= len(conv), f"{name}: {made.frozen} of {len(conv)} modules are frozen"
    for layer, at in made.layers.items():
        assert 0 <= at < len(conv), f"{name}: layer {layer!r} begins at module {at} of {len(conv)}"
    for key, value in conv.state_dict().items():
        floating = value.is_floating_point()
        assert not floating or value.dtype == torch.float32, f"{name}: {key} is {value.dtype}, not float32"
    conv(torch.rand(1, 3, 224, 224)).sum().backward()
    assert any(parameter.grad is not None for parameter in conv.parameters()), f"{name}: no weight gets a gradient"
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in build(name).conv.state_dict().items()}
    assert shapes == {key: value.shape for key, value in conv.state_dict().items()}, (
        f"{name} has other weights when it is built on the meta device"
    )


def _check_maps(name: str, made: Any, maps: Any, height: int, width: int) -> None:
    where = f"{name}: the map of an image of {height} x {width} pixels"
    assert maps.dim() == 4, f"{where} is {list(maps.shape)}, not [B, C, h, w]"
    assert maps.shape[:2] == (2, made.channels), (
        f"{where} is {list(maps.shape)}, but there are {made.channels} channels"
    )
    for cells, size in zip(maps.shape[2:], (height, width), strict=True):
        wanted = size / made.stride
        assert abs(cells - wanted) <= 2, (
            f"{where} has {cells} cells where {wanted:.1f} are expected (stride {made.stride})"
        )
    assert maps.isfinite().all(), f"{where} is not finite"


def _check_hidden(name: str, made: Any) -> None:
    import torch

    pooled = torch.rand(3, made.channels, *made.grid)
    if isinstance(made.hidden, torch.nn.Sequential):
        with torch.no_grad():
            out = made.hidden.eval()(pooled)
        assert out.dim() == 4, f"{name}: the hidden layers give {list(out.shape)}, not [R, D, h, w]"
        assert len(out) == 3, f"{name}: the hidden layers change the number of RoIs"
        return
    first = made.hidden[0]
    inputs = first.in_features if isinstance(first, torch.nn.Linear) else made.channels * made.grid[0] * made.grid[1]
    expected = made.channels * made.grid[0] * made.grid[1]
    assert inputs == expected, f"{name}: the first hidden layer reads {inputs} numbers, but a pooled RoI has {expected}"
