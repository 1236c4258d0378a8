"""Pooling from several maps in one call: against torchvision's `MultiScaleRoIAlign`, and against one map at a time."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import LevelMapper

from frcnn_cli.roi.levels import pyramid_level
from frcnn_cli.roi.pooler import RoIPooler
from frcnn_cli.roi.pooling import roi_align, roi_max_pool
from frcnn_cli.roi.rois import RoIs
from tests.roi.rois import some_maps, some_rois

STRIDES = (4, 8, 16, 32)


def pyramid(rng, strides=STRIDES, channels=5, height=480, width=640):
    return [some_maps(rng, channels=channels, height=height // s, width=width // s) for s in strides]


def boxes_of_all_sizes(rng, count=60, height=480, width=640):
    sizes = np.exp(rng.uniform(np.log(2), np.log(width), (count, 2)))
    corners = rng.uniform(0, 1, (count, 2)) * (np.array([width, height]) - sizes).clip(0)
    return np.concatenate([corners, corners + sizes], axis=1).astype(np.float32)


@pytest.mark.parametrize("strides", [STRIDES, (8, 16), (32, 32)])
def test_aligned_rois_are_those_of_torchvision(strides):
    """Levels and pooled values, for boxes of all sizes in two images."""
    rng = np.random.default_rng(1)
    maps = pyramid(rng, strides)
    boxes = [boxes_of_all_sizes(rng), boxes_of_all_sizes(rng)]
    rois = RoIs.of_images(boxes, [1.0, 1.0])
    pooler = RoIPooler("align_v1", (7, 7), strides)
    windows = pooler.windows(rois)
    theirs = MultiScaleRoIAlign([str(i) for i in range(len(maps))], 7, 2)
    named = OrderedDict((str(i), one) for i, one in enumerate(maps))
    expected = theirs(named, [torch.from_numpy(one) for one in boxes], [(480, 640)] * 2)
    assert torch.equal(pooler(tuple(maps), windows), expected)
    if strides == STRIDES:
        assert set(windows.level.tolist()) == {0, 1, 2, 3}, "the sample has boxes for several levels"


@given(st.lists(st.tuples(*[st.floats(0.125, 2000, width=32)] * 2), min_size=1, max_size=20), st.sampled_from([2, 3]))
def test_levels_are_those_of_torchvision(sizes, first):
    boxes = torch.tensor([[1.5, 2.5, 1.5 + w, 2.5 + h] for w, h in sizes])
    expected = LevelMapper(first, 5)([boxes])
    assert pyramid_level(boxes, [1 << k for k in range(first, 6)]).tolist() == expected.tolist()


def test_boxes_at_the_border_between_levels():
    """A box of 224 x 224 pixels is on the level of stride 16, one of 448 x 448 on the next; boxes without area on the
    first."""
    sides = torch.tensor([0.0, 1, 111.9, 112, 223.9, 224, 447.9, 448, 1e6])
    boxes = torch.stack([sides * 0, sides * 0, sides, sides], dim=1)
    assert pyramid_level(boxes, STRIDES).tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]
    assert pyramid_level(torch.tensor([[5.0, 5, 1, 9], [np.nan] * 4]), STRIDES).tolist() == [0, 0]


@pytest.mark.parametrize("operator", ["max", "align"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_call_is_one_call_per_level(operator, dtype):
    """Forward and backward, with RoIs of the levels in any order, and a level without RoIs."""
    rng = np.random.default_rng(2)
    scales = [1 / stride for stride in STRIDES]
    together = [one.to(dtype).requires_grad_() for one in pyramid(rng)]
    alone = [one.detach().clone().requires_grad_() for one in together]
    rois, level = some_rois(rng, 50), torch.from_numpy(rng.integers(0, 3, 50))

    def pool(maps, rois, scales, level=None):
        if operator == "max":
            return roi_max_pool(maps, rois, (3, 2), scales, level)
        return roi_align(maps, rois, (3, 2), scales, 2, True, level)

    found = pool(together, rois, scales, level)
    expected = torch.zeros_like(found)
    for i in range(4):
        on = level == i
        expected[on] = pool(alone[i], rois[on], scales[i])
    assert torch.equal(found, expected)
    slopes = torch.from_numpy(rng.integers(-3, 4, found.shape)).to(dtype)
    found.backward(slopes)
    expected.backward(slopes)
    for one, other in zip(together, alone, strict=True):
        assert torch.equal(one.grad, other.grad)
    assert not together[3].grad.any()


@pytest.mark.parametrize("operator", [roi_max_pool, roi_align])
def test_gradients_by_differences(operator):
    rng = np.random.default_rng(0)
    maps = [torch.from_numpy(rng.permutation(2 * n * n).reshape(1, 2, n, n) / 7.0).requires_grad_() for n in (6, 3)]
    rois, level = some_rois(rng, 6, images=1, width=40, height=40).double(), torch.tensor([0, 1, 1, 0, 1, 0])

    def pool(*maps):
        return operator(maps, rois, 2, [1 / 8, 1 / 16], level=level)

    torch.autograd.gradcheck(pool, maps)


@pytest.mark.parametrize("kind", ["max", "align", "align_v1"])
def test_no_rois_on_a_pyramid(kind):
    maps = pyramid(np.random.default_rng(0))
    pooler = RoIPooler(kind, (7, 7), STRIDES, (0.0,) * 4)
    windows = pooler.windows(RoIs.of_images([np.zeros((0, 4), np.float32)], [1.0]))
    assert pooler(tuple(maps), windows).shape == (0, 5, 7, 7)
    assert len(pooler.unique(windows)[0]) == 0


def test_rois_of_two_levels_are_not_one():
    """They have the same cells on their maps, but the maps differ."""
    pooler = RoIPooler("max", (7, 7), (16, 32))
    boxes = np.array([[0, 0, 321, 321], [0, 0, 641, 641], [0, 0, 321, 321]], np.float32)
    windows = pooler.windows(RoIs.of_images([boxes], [1.0]))
    assert windows.level.tolist() == [0, 1, 0]
    first, group = pooler.unique(windows)
    assert len(first) == 2
    assert group[0] == group[2] != group[1]


def test_scales_along_x_and_y():
    boxes = np.array([[10, 20, 31, 41]], np.float32)
    rois = RoIs.of_images([boxes, boxes], [(2.0, 3.0), 1.0])
    corners = RoIPooler("align_v1", (7, 7), (16,)).windows(rois).corners
    assert corners.tolist() == [[0, 20, 60, 62, 123], [1, 10, 20, 31, 41]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"level": None}, "expected the level of each RoI, because there are 2 maps"),
        ({"level": torch.tensor([0, 2])}, "levels must be from 0 to 1, not 0 to 2"),
        ({"level": torch.tensor([-1, 0])}, "levels must be from 0 to 1"),
        ({"level": torch.tensor([0])}, "expected integer levels"),
        ({"level": torch.tensor([0.0, 1.0])}, "expected integer levels"),
        ({"spatial_scale": 0.1}, "2 maps and 1 scales"),
        ({"features": []}, "at least one map"),
        (
            {"features": [torch.zeros(1, 2, 4, 4), torch.zeros(1, 3, 2, 2)]},
            "same dtype, device, batch size and channels",
        ),
        ({"features": [torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 2, 2).half()]}, "same dtype"),
        ({"features": [torch.zeros(1, 2, 4, 4), torch.zeros(2, 4, 4)]}, r"expected floating-point features"),
    ],
)
@pytest.mark.parametrize("operator", [roi_max_pool, roi_align])
def test_wrong_arguments(operator, change, message):
    """Never numbers from beside a map."""
    arguments = {
        "features": [torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 2, 2)],
        "rois": torch.zeros(2, 5),
        "output_size": 2,
        "spatial_scale": [0.1, 0.05],
        "level": torch.tensor([0, 1]),
    }
    assert operator(**arguments).shape == (2, 2, 2, 2)
    with pytest.raises(ValueError, match=message):
        operator(**(arguments | change))
