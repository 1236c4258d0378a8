"""Conv maps that are not finite are found, whatever their dtype, order in memory, and level."""

import pytest
import torch

from frcnn_cli.detector.maps import are_finite


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_value_is_found_in_its_image(dtype, order, value):
    levels = [torch.ones(3, 4, 5, 6, dtype=dtype).to(memory_format=order) for _ in range(2)]
    assert are_finite(tuple(levels)).tolist() == [True, True, True]
    levels[1][1, 2, 3, 4] = value
    assert are_finite(tuple(levels)).tolist() == [True, False, True]
    assert are_finite(levels[0]).tolist() == [True, True, True]


def test_maps_without_values_are_finite():
    assert are_finite(torch.zeros(2, 4, 0, 6)).tolist() == [True, True]
    assert are_finite(torch.zeros(0, 4, 5, 6)).tolist() == []


def test_values_whose_sum_overflows_are_finite():
    assert are_finite(torch.full((1, 8, 64, 64), 65504.0, dtype=torch.float16)).tolist() == [True]
    assert are_finite(torch.full((1, 8, 64, 64), 3e38)).tolist() == [True]
