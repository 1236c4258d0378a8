"""Truncated SVD of layers, against NumPy's."""

import numpy as np
import pytest
import torch
from torch import nn

from frcnn_cli.roi.svd import largest_useful_rank, spectrum, truncated


@pytest.mark.parametrize("shape", [(6, 20), (12, 12), (20, 6)])
def test_it_is_the_nearest_matrix_of_that_rank(shape):
    torch.manual_seed(0)
    layer = nn.Linear(shape[1], shape[0])
    weight = layer.weight.detach().numpy()
    u, s, v = np.linalg.svd(weight, full_matrices=False)
    np.testing.assert_allclose(spectrum(layer.weight).energy, s**2, rtol=1e-5)
    for rank in (1, 3, 6):
        two = truncated(layer, rank)
        assert [tuple(p.shape) for p in two.parameters()] == [(rank, shape[1]), (shape[0], rank), (shape[0],)]
        x = torch.randn(5, shape[1])
        expected = x @ torch.from_numpy((u[:, :rank] * s[:rank]) @ v[:rank]).T + layer.bias
        torch.testing.assert_close(two(x), expected, rtol=1e-4, atol=1e-5)


def test_ranks_that_cannot_be():
    for rank in (0, 7):
        with pytest.raises(ValueError, match="between 1 and 6"):
            truncated(nn.Linear(20, 6), rank)


def test_the_rank_that_keeps_a_share():
    layer = nn.Linear(4, 4)
    layer.weight.data = torch.diag(torch.tensor([4.0, 2.0, 1.0, 0.0]))  # squares: 16, 4, 1
    of = spectrum(layer.weight)
    assert [of.rank_for(share) for share in (0.5, 16 / 21, 0.77, 20 / 21, 0.96, 1.0)] == [1, 1, 2, 2, 3, 3]
    layer.weight.data.zero_()
    assert spectrum(layer.weight).rank_for(0.9) >= 1


def test_where_two_layers_cost_less():
    layer = nn.Linear(100, 50)
    rank = largest_useful_rank(layer)
    assert rank * 150 < 100 * 50 <= (rank + 1) * 150
