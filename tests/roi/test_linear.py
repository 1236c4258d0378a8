"""Fully connected layers by either library."""

import pytest
import torch
from torch import nn

from frcnn_cli.roi import linear as module
from frcnn_cli.roi.linear import linear


@pytest.mark.parametrize("rows", [0, 1, 2, 50])
@pytest.mark.parametrize("bias", [False, True])
def test_without_gradient_it_is_the_layer(rows, bias):
    torch.manual_seed(0)
    layer, x = nn.Linear(70, 30, bias=bias), torch.randn(rows, 70)
    with torch.inference_mode():
        torch.testing.assert_close(linear(layer, x), layer(x), rtol=1e-5, atol=1e-5)
        two = nn.Sequential(nn.Linear(70, 5, bias=False), nn.Linear(5, 30))
        torch.testing.assert_close(linear(two, x), two(x), rtol=1e-5, atol=1e-5)
        half = nn.Linear(70, 30).bfloat16()
        assert torch.equal(linear(half, x.bfloat16()), half(x.bfloat16()))


def test_with_gradient_and_without_onednn_it_is_pytorchs_own(monkeypatch):
    layer, x = nn.Linear(70, 30), torch.randn(9, 70)
    found = linear(layer, x)
    assert torch.equal(found, layer(x))
    found.sum().backward()
    assert layer.weight.grad is not None
    monkeypatch.setattr(module, "_has_onednn", lambda: False)
    with torch.no_grad():
        assert torch.equal(linear(layer, x), layer(x))


def test_the_number_of_rows_changes_a_row_by_rounding_alone():
    torch.manual_seed(0)
    layer, x = nn.Linear(500, 64), torch.randn(300, 500)
    with torch.inference_mode():
        torch.testing.assert_close(linear(layer, x)[:7], linear(layer, x[:7]), rtol=1e-5, atol=1e-5)
