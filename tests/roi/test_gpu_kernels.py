"""The Triton kernels against the CPU's: on a GPU where there is one, else in Triton's interpreter."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from frcnn_cli.roi.pooling import roi_align, roi_max_pool
from tests.roi.rois import nonsense, some_maps, some_rois

pytest.importorskip("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are made, which is when these modules are imported

from frcnn_cli.roi.pooling import align_gpu, max_pool_gpu  # noqa: E402


def _max_pool(maps, rois, bins, scale, winners):
    return max_pool_gpu.forward(
        [maps], rois, torch.zeros(len(rois), dtype=torch.int64, device=DEVICE), bins, [scale], winners
    )


def _align(maps, rois, bins, scale, sampling, aligned):
    level = torch.zeros(len(rois), dtype=torch.int64, device=DEVICE)
    return align_gpu.forward([maps], rois, level, bins, [scale], sampling, aligned)


@pytest.fixture
def deterministic(request):
    torch.use_deterministic_algorithms(request.param)
    yield request.param
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("deterministic", [False, True], indirect=True)
@pytest.mark.parametrize("channels", [3, 600])
def test_max_pool(channels, deterministic, dtype):
    rng = np.random.default_rng(channels)
    maps = some_maps(rng, channels=channels, height=6, width=7, ties=True).to(dtype).requires_grad_()
    rois = some_rois(rng, 5, width=110, height=90)
    expected = roi_max_pool(maps, rois, (3, 2), 1 / 16)
    there, boxes = maps.detach().to(DEVICE), rois.to(DEVICE)
    pooled, winners = _max_pool(there, boxes, (3, 2), 1 / 16, winners=True)
    assert torch.equal(pooled.cpu(), expected)
    assert torch.equal(_max_pool(there, boxes, (3, 2), 1 / 16, winners=False)[0].cpu(), expected)
    gradient = torch.from_numpy(rng.integers(-3, 4, expected.shape)).to(dtype)  # sums are exact in any order
    expected.backward(gradient)
    spread = max_pool_gpu.backward(gradient.to(DEVICE), boxes, winners, 1 / 16, list(maps.shape))
    assert torch.equal(spread.cpu(), maps.grad)


@pytest.mark.parametrize("deterministic", [False, True], indirect=True)
def test_a_last_bin_that_reaches_one_cell_beyond_its_roi(deterministic):
    """In float32 7 x (57 / 7) is more than 57."""
    maps = torch.arange(59.0).reshape(1, 1, 59, 1)
    rois = torch.tensor([[0.0, 0, 0, 0, 56]])
    pooled, winners = _max_pool(maps.to(DEVICE), rois.to(DEVICE), (7, 7), 1.0, winners=True)
    assert torch.equal(pooled.cpu(), roi_max_pool(maps, rois, 7, 1.0))
    assert pooled.max() == 57
    spread = max_pool_gpu.backward(torch.ones_like(pooled), rois.to(DEVICE), winners, 1.0, [1, 1, 59, 1])
    assert spread.sum() == 49


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("sampling", [-1, 2])
def test_align(sampling, aligned):
    rng = np.random.default_rng(0)
    maps = some_maps(rng, channels=5, height=6, width=7).requires_grad_()
    rois = some_rois(rng, 8, width=110, height=90)
    rois[0, [1, 3]] = rois[0, [3, 1]]  # inverted
    expected = roi_align(maps, rois, (2, 3), 1 / 16, sampling, aligned)
    arguments = (1 / 16, sampling, aligned)
    there, boxes = maps.detach().to(DEVICE), rois.to(DEVICE)
    torch.testing.assert_close(_align(there, boxes, (2, 3), *arguments).cpu(), expected.detach())
    gradient = torch.from_numpy(rng.normal(size=expected.shape).astype(np.float32))
    expected.backward(gradient)
    spread = align_gpu.backward(gradient.to(DEVICE), boxes, *arguments, list(maps.shape))
    torch.testing.assert_close(spread.cpu(), maps.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("deterministic", [False, True], indirect=True)
def test_pyramids(deterministic):
    """Two levels in one call, forward as the operators, against the CPU."""
    rng = np.random.default_rng(3)
    sizes, scales = ((12, 14), (6, 7), (3, 4)), (1 / 8, 1 / 16, 1 / 32)
    maps = [some_maps(rng, channels=5, height=h, width=w) for h, w in sizes]
    rois, level = some_rois(rng, 9, width=110, height=90), torch.tensor([0, 2, 1, 1, 0, 2, 0, 1, 0])
    there = [one.to(DEVICE) for one in maps]
    boxes, on = rois.to(DEVICE), level.to(DEVICE)
    pooled, _ = max_pool_gpu.forward(there, boxes, on, (3, 2), scales, winners=True)
    assert torch.equal(pooled.cpu(), roi_max_pool(maps, rois, (3, 2), scales, level))
    sampled = align_gpu.forward(there, boxes, on, (3, 2), scales, 2, True)
    torch.testing.assert_close(sampled.cpu(), roi_align(maps, rois, (3, 2), scales, 2, True, level))


def test_no_rois():
    maps, rois = torch.zeros(1, 2, 3, 3, device=DEVICE), torch.zeros(0, 5, device=DEVICE)
    pooled, winners = _max_pool(maps, rois, (7, 7), 1 / 16, winners=True)
    assert pooled.shape == winners.shape == (0, 2, 7, 7)
    assert not max_pool_gpu.backward(pooled, rois, winners, 1 / 16, [1, 2, 3, 3]).any()
    sampled = _align(maps, rois, (7, 7), 1 / 16, -1, True)
    assert sampled.shape == (0, 2, 7, 7)
    assert not align_gpu.backward(sampled, rois, 1 / 16, -1, True, [1, 2, 3, 3]).any()


@settings(deadline=None, max_examples=25)
@given(nonsense)
def test_nonsense_is_what_the_cpu_makes_of_it(rois):
    maps = some_maps(np.random.default_rng(0), channels=2, height=4, width=5)
    rois = torch.tensor(rois, dtype=torch.float32)
    pooled, _ = _max_pool(maps.to(DEVICE), rois.to(DEVICE), (2, 2), 1 / 16, winners=True)
    assert torch.equal(pooled.cpu(), roi_max_pool(maps, rois, 2, 1 / 16))
    sampled = _align(maps.to(DEVICE), rois.to(DEVICE), (2, 2), 1 / 16, 2, True)
    torch.testing.assert_close(sampled.cpu(), roi_align(maps, rois, 2, 1 / 16, 2, True), rtol=1e-3, atol=1e-3)


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from frcnn_cli.roi.pooling import align_gpu, max_pool_gpu
from frcnn_cli.roi.pooling.gpu import EXACT

def compiles(kernel, pointers, **constants):
    types = {name: "i32" for name in kernel.arg_names} | {"scale": "fp32", "lowest": "fp32", "rois": "*fp32"}
    types |= {"table": "*i64", "scales": "*fp32", "level": "*i64"} | pointers
    signature = {name: "constexpr" if name in constants else types[name] for name in kernel.arg_names}
    values = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    made = triton.compile(ASTSource(kernel, signature, values), target=GPUTarget("cuda", 80, 32), options=EXACT)
    assert made.asm["cubin"]

for kind in ("*fp32", "*bf16"):
    both = {"maps": kind, "pooled": kind, "winners": "*i16"}
    compiles(max_pool_gpu._pool, both, ROWS=7, COLUMNS=6, WINNERS=True, BLOCK=512)
    back = {"slopes": kind, "maps": "*fp32", "winners": "*i16"}
    compiles(max_pool_gpu._scatter, back, ROWS=7, COLUMNS=6, BLOCK=512)
    compiles(max_pool_gpu._gather, back, ROWS=7, COLUMNS=6, BLOCK=512)
    for sampling in (-1, 2):
        options = {"SAMPLING": sampling, "ALIGNED": True, "ROWS": 7, "COLUMNS": 6, "BLOCK": 512}
        compiles(align_gpu._align, {"maps": kind, "bins": kind}, BACKWARD=False, **options)
        compiles(align_gpu._align, {"maps": "*fp32", "bins": kind}, BACKWARD=True, **options)
"""


def test_they_compile_for_a_gpu_that_is_not_here():
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    ran = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
