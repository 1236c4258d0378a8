"""The CPU kernel of RoI align against torchvision's operator, to the bit, and against nonsense."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import roi_align as theirs

from frcnn_cli.roi.pooling import roi_align
from tests.roi.rois import nonsense, some_maps, some_rois


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("sampling", [-1, 1, 2, 3])
@pytest.mark.parametrize("size", [1, 7, (4, 2)])
def test_forward_and_backward_are_torchvisions(size, sampling, aligned):
    rng = np.random.default_rng(size)
    rois = some_rois(rng, 60)
    maps = some_maps(rng, channels=20).contiguous(memory_format=torch.channels_last).requires_grad_()
    same = maps.detach().contiguous().requires_grad_()
    found = roi_align(maps, rois, size, 1 / 16, sampling, aligned)
    expected = theirs(same, rois, size, 1 / 16, sampling, aligned)
    assert torch.equal(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)
    gradient = torch.from_numpy(rng.normal(size=expected.shape).astype(np.float32))
    found.backward(gradient)
    expected.backward(gradient)
    torch.testing.assert_close(maps.grad, same.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("aligned", [False, True])
def test_inverted_rois_are_torchvisions(aligned):
    rng = np.random.default_rng(0)
    maps, rois = some_maps(rng, channels=3), some_rois(rng, 60)
    rois[:, [1, 3]] = rois[:, [3, 1]]
    rois[::2, [2, 4]] = rois[::2, [4, 2]]
    for sampling in [2] if aligned else [-1, 2]:  # torchvision's fails where it is to choose the number
        assert torch.equal(
            roi_align(maps, rois, 3, 1 / 16, sampling, aligned), theirs(maps, rois, 3, 1 / 16, sampling, aligned)
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes(dtype):
    rng = np.random.default_rng(0)
    maps, rois = some_maps(rng, channels=5).to(dtype), some_rois(rng, 20)
    found = roi_align(maps.clone().requires_grad_(), rois, 7, 1 / 16, 2, True)
    assert found.dtype == dtype
    wanted = roi_align(maps.float(), rois, 7, 1 / 16, 2, True)
    torch.testing.assert_close(found.float(), wanted, rtol=1e-2 if dtype == torch.bfloat16 else 2e-3, atol=1e-4)
    found.sum().backward()


def test_threads_change_nothing():
    rng = np.random.default_rng(0)
    rois, maps = some_rois(rng, 200), some_maps(rng, channels=9).requires_grad_()
    before = torch.get_num_threads()
    results = []
    for count in (1, 3):
        torch.set_num_threads(count)
        try:
            maps.grad = None
            pooled = roi_align(maps, rois, 7, 1 / 16, -1, True)
            (pooled**2).sum().backward()
        finally:
            torch.set_num_threads(before)
        results.append((pooled.detach(), maps.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_no_rois():
    maps = torch.zeros(2, 5, 4, 4, requires_grad=True)
    pooled = roi_align(maps, torch.zeros(0, 5), 7, 1 / 16)
    assert pooled.shape == (0, 5, 7, 7)
    pooled.sum().backward()
    assert maps.grad.abs().sum() == 0


@pytest.mark.parametrize("aligned", [False, True])
def test_gradients_by_differences(aligned):
    rng = np.random.default_rng(0)
    maps = torch.from_numpy(rng.normal(size=(2, 3, 5, 6))).requires_grad_()
    rois = some_rois(rng, 6, width=90, height=70).double()
    assert torch.autograd.gradcheck(lambda x: roi_align(x, rois, 3, 1 / 16, 2, aligned), (maps,))


def test_the_operator_is_what_pytorch_expects():
    rng = np.random.default_rng(0)
    maps, rois = some_maps(rng, channels=4).requires_grad_(), some_rois(rng, 5)
    torch.library.opcheck(
        torch.ops.frcnn.roi_align.default,
        ([maps], rois, torch.zeros(len(rois), dtype=torch.int64), [3, 2], [1 / 16], 2, True),
    )


@settings(deadline=None, max_examples=200)
@given(nonsense, st.booleans(), st.sampled_from([-1, 2]), st.booleans())
def test_nonsense_never_reads_beside_the_map(rois, aligned, sampling, grad):
    """Around the maps lies NaN: whatever a RoI says, none of it is sampled, no gradient goes there, and it ends."""
    whole = torch.full((4, 3, 9, 9), torch.nan).contiguous(memory_format=torch.channels_last)
    whole[1:3] = 1.0
    maps = whole[1:3].detach().requires_grad_(grad)  # read where it lies: no copy is made of what is channels last
    pooled = roi_align(maps, torch.tensor(rois, dtype=torch.float32), 3, 1 / 16, sampling, aligned)
    assert ((pooled >= 0) & (pooled <= 1.0001)).all()
    if grad:
        pooled.sum().backward()
        assert torch.isfinite(maps.grad).all()
        torch.testing.assert_close(maps.grad.sum(), pooled.detach().sum(), rtol=1e-3, atol=1e-3)
