"""The CPU kernel of RoI max pooling against torchvision's operator, to the bit, and against nonsense."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import roi_pool

from frcnn_cli.roi.pooling import roi_max_pool
from tests.roi.rois import nonsense, some_maps, some_rois


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("size", [1, 6, 7, (2, 5)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_forward_and_backward_are_torchvisions(layout, size, ties):
    rng = np.random.default_rng(size)
    rois = some_rois(rng, 150)
    ours = some_maps(rng, ties=ties).contiguous(memory_format=layout).requires_grad_()
    theirs = ours.detach().contiguous().requires_grad_()
    found, expected = roi_max_pool(ours, rois, size, 1 / 16), roi_pool(theirs, rois, size, 1 / 16)
    assert torch.equal(found, expected)
    assert torch.equal(roi_max_pool(ours.detach(), rois, size, 1 / 16), expected)
    assert found.is_contiguous(memory_format=torch.channels_last)
    gradient = torch.from_numpy(rng.normal(size=expected.shape).astype(np.float32))
    found.backward(gradient)
    expected.backward(gradient)
    assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_give_the_same_maxima(dtype):
    rng = np.random.default_rng(0)
    maps, rois = some_maps(rng).to(dtype), some_rois(rng, 20)
    found = roi_max_pool(maps.clone().requires_grad_(), rois, 7, 1 / 16)
    assert found.dtype == dtype
    assert torch.equal(found, roi_max_pool(maps.float(), rois, 7, 1 / 16).to(dtype))
    found.sum().backward()


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_changes_nothing(threads):
    rng = np.random.default_rng(0)
    rois = some_rois(rng, 200)
    maps = some_maps(rng, channels=200).requires_grad_()
    before = torch.get_num_threads()
    results = []
    for count in (before, threads):
        torch.set_num_threads(count)
        try:
            maps.grad = None
            pooled = roi_max_pool(maps, rois, 7, 1 / 16)
            (pooled**2).sum().backward()
        finally:
            torch.set_num_threads(before)
        results.append((pooled.detach(), maps.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_with_all_kinds_of_numbers(dtype):
    kinds = [torch.nan, torch.inf, -torch.inf, 0.0, -0.0, torch.finfo(dtype).min, -1e-7, 1.5]
    for a in kinds:
        for b in kinds:
            maps = torch.tensor([a, b], dtype=dtype).reshape(1, 1, 1, 2)
            roi = torch.tensor([[0.0, 0, 0, 1, 0]])
            found = roi_max_pool(maps, roi, 1, 1.0)
            # Where nothing is larger than it, torchvision gives the lowest number of the dtype it works in.
            wanted = max(torch.finfo(dtype).min, *(x for x in maps.flatten().tolist() if x == x), float("-inf"))
            assert found.item() == wanted, (a, b)


def test_a_map_of_many_cells_has_winners_of_32_bits():
    rng = np.random.default_rng(0)
    ours = some_maps(rng, channels=2, images=1, height=190, width=180).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    rois = some_rois(rng, 30, images=1, width=180, height=190)
    roi_max_pool(ours, rois, 3, 1.0).square().sum().backward()
    roi_pool(theirs, rois, 3, 1.0).square().sum().backward()
    assert torch.equal(ours.grad, theirs.grad)


def test_no_rois():
    maps = torch.zeros(2, 5, 4, 4, requires_grad=True)
    pooled = roi_max_pool(maps, torch.zeros(0, 5), 7, 1 / 16)
    assert pooled.shape == (0, 5, 7, 7)
    pooled.sum().backward()
    assert maps.grad.abs().sum() == 0


def test_gradients_by_differences():
    rng = np.random.default_rng(0)
    maps = torch.from_numpy(rng.permutation(2 * 3 * 5 * 6).reshape(2, 3, 5, 6).astype(np.float64)).requires_grad_()
    rois = some_rois(rng, 6, width=90, height=70)
    assert torch.autograd.gradcheck(lambda x: roi_max_pool(x, rois, 3, 1 / 16), (maps,))


@pytest.mark.parametrize("grad", [False, True])
def test_the_operators_are_what_pytorch_expects(grad):
    rng = np.random.default_rng(0)
    maps, rois = some_maps(rng, channels=4).requires_grad_(grad), some_rois(rng, 5)
    operator = torch.ops.frcnn.roi_max_pool if grad else torch.ops.frcnn.roi_max_pool_only
    torch.library.opcheck(operator.default, ([maps], rois, torch.zeros(len(rois), dtype=torch.int64), [3, 2], [1 / 16]))


@settings(deadline=None, max_examples=200)
@given(nonsense, st.booleans())
def test_nonsense_never_reads_beside_the_map(rois, grad):
    """Around the maps lies NaN: whatever a RoI says, none of it is pooled, and no gradient goes there."""
    whole = torch.full((4, 3, 9, 9), torch.nan).contiguous(memory_format=torch.channels_last)
    whole[1:3] = 1.0
    maps = whole[1:3].detach().requires_grad_(grad)  # read where it lies: no copy is made of what is channels last
    pooled = roi_max_pool(maps, torch.tensor(rois, dtype=torch.float32), 3, 1 / 16)
    assert torch.isin(pooled.detach(), torch.tensor([0.0, 1.0])).all()
    if grad:
        pooled.sum().backward()
        assert maps.grad.sum() == pooled.detach().sum()


def test_compiled_it_is_one_graph():
    maps, rois = some_maps(np.random.default_rng(0), channels=4), some_rois(np.random.default_rng(1), 5)
    compiled = torch.compile(lambda m, r: roi_max_pool(m * 2, r, 3, 1 / 16) + 1, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(maps, rois), roi_max_pool(maps * 2, rois, 3, 1 / 16) + 1)


def test_a_fork_has_threads_of_its_own():
    code = (
        "import os, torch\nfrom frcnn_cli.roi.pooling import roi_max_pool\ntorch.set_num_threads(2)\n"
        "pool = lambda: roi_max_pool(torch.rand(1, 4, 9, 9), torch.rand(200, 5), 3, 1.0)\npool()\n"
        "child = os.fork()\npool()\nif child == 0: os._exit(7)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
