"""What `frcnn doctor` tells, for people and for programs."""

import platform
import subprocess
import sys

import numba
import numpy as np
import pytest
import torch

from frcnn_cli.roi.pooling.gpu import why_not_triton
from frcnn_cli.system.jit import is_cached, kernel
from tests.conftest import run_frcnn


def test_sections_and_versions():
    told = run_frcnn("doctor", "--json").json
    assert set(told) == {"versions", "machine", "devices", "kernels", "plugins"}
    assert told["versions"]["torch"] == torch.__version__.split("+")[0]
    assert told["versions"]["numpy"] == np.__version__
    assert "selective-search" in told["plugins"]
    assert "Numba" in told["kernels"]["RoI pooling on the CPU"]
    if not torch.cuda.is_available():
        assert told["devices"]["GPU"].startswith("none: ")


def test_as_text_it_is_the_same():
    ran = run_frcnn("doctor")
    assert ran.code == 0
    for name in run_frcnn("doctor", "--json").json["versions"]:
        assert f"  {name} " in ran.out


def test_why_there_is_no_triton():
    assert why_not_triton(torch.device("cpu")) == "not a CUDA device"


def test_whether_kernels_are_kept(monkeypatch):
    @kernel()
    def double(x):
        return 2 * x

    assert double(2) == 4
    assert is_cached(double)
    assert not is_cached(numba.njit(lambda x: x))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_memory_stays_after_it_was_freed():
    code = """
import resource
from frcnn_cli.system.memory import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        bytearray(50_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
fresh = faults()
assert keep_freed_memory()
faults()
assert faults() < fresh / 4, fresh
"""
    subprocess.run([sys.executable, "-c", code], check=True)
