"""Triton kernels that check themselves: in Triton's interpreter where there is no GPU."""

import os
import subprocess
import sys
import time
import warnings

import pytest
import torch

from frcnn_cli.core.errors import FrcnnWarning
from frcnn_cli.roi.pooling import self_check

pytest.importorskip("triton")
GPU = torch.device("cuda")
CPU = torch.device("cpu")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(self_check, "_key", lambda kernel, device: f"{kernel} on {device}")
    self_check.why_not_trusted.cache_clear()
    yield tmp_path / "frcnn" / "kernels.json"
    self_check.why_not_trusted.cache_clear()


CHECK = """
import torch
from frcnn_cli.roi.pooling.self_check import KERNELS, problem_of
for kernel in KERNELS:
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        print(repr(problem_of(kernel, torch.device("DEVICE"), dtype)))
"""


def test_the_kernels_pass():
    device = "cuda" if torch.cuda.is_available() else "cpu"
    environment = os.environ | ({} if device == "cuda" else {"TRITON_INTERPRET": "1"})
    line = [sys.executable, "-c", CHECK.replace("DEVICE", device)]
    done = subprocess.run(line, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["''"] * 6, done.stderr


@pytest.mark.parametrize("part", [0, 1], ids=["output", "gradient"])
@pytest.mark.parametrize("kernel", self_check.KERNELS)
def test_a_wrong_kernel_is_noticed(kernel, part, monkeypatch):
    """torchvision's operator with one number changed stands for a kernel that is wrong on some GPU."""

    def wrong(maps, rois, gradient):
        results = self_check._by_torchvision(kernel, maps, rois, gradient)
        results[part].view(-1)[5] += 1
        return results

    monkeypatch.setattr(self_check, "_max_pool" if kernel == "max" else "_align", wrong)
    assert f"its {('output', 'gradient')[part]} differs from torchvision's by 1" in self_check.problem_of(kernel, CPU)


def test_a_kernel_that_does_not_compile_is_replaced_with_one_warning(cache, monkeypatch):
    calls = []

    def broken(*arguments):
        calls.append(1)
        raise RuntimeError("PTX of another version\nin many lines")

    monkeypatch.setattr(self_check, "_max_pool", broken)
    with pytest.warns(FrcnnWarning, match=r"RoI max pooling is not used on cpu \(RuntimeError: PTX") as caught:
        problems = {self_check.why_not_trusted("max", CPU) for _ in range(3)}
    assert len(caught) == len(calls) == 1
    assert problems == {"RuntimeError: PTX of another version in many lines"}
    self_check.why_not_trusted.cache_clear()  # as in another process
    with pytest.warns(FrcnnWarning):
        assert self_check.why_not_trusted("max", CPU) in problems
    assert len(calls) == 1  # read from disk


@pytest.mark.parametrize("problem", ["OutOfMemoryError: CUDA out of memory", "it has not ended in 120 s"])
def test_a_problem_of_the_moment_is_not_kept(cache, monkeypatch, problem):
    monkeypatch.setattr(self_check, "problem_of", lambda *arguments: problem)
    with pytest.warns(FrcnnWarning):
        assert self_check.why_not_trusted("max", CPU) == problem
    self_check.why_not_trusted.cache_clear()  # as in another process
    monkeypatch.setattr(self_check, "problem_of", lambda *arguments: "")
    assert self_check.why_not_trusted("max", CPU) is None


def test_a_kernel_that_hangs_is_replaced(cache, monkeypatch):
    monkeypatch.setattr(self_check, "_TIME_LIMIT", 0.2)
    monkeypatch.setattr(self_check, "problem_of", lambda *arguments: time.sleep(2) or "")
    with pytest.warns(FrcnnWarning, match="has not ended"):
        assert self_check.why_not_trusted("align", CPU)


def test_a_good_kernel_is_checked_once(cache, monkeypatch):
    calls = []
    monkeypatch.setattr(self_check, "problem_of", lambda *arguments: calls.append(arguments) or "")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            assert self_check.why_not_trusted("max", CPU) is None
            self_check.why_not_trusted.cache_clear()
    assert len(calls) == 1


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000, '{"max on cpu": 7}', "x" * (2 << 20)])
def test_a_damaged_file_of_verdicts_is_ignored(cache, monkeypatch, content):
    cache.parent.mkdir()
    cache.write_text(content)
    monkeypatch.setattr(self_check, "problem_of", lambda *arguments: "")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        self_check.why_not_trusted("max", CPU)
    assert self_check._read()


def test_a_cache_that_cannot_be_written_is_no_error(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    self_check._write({"a": ""})
    assert self_check._read() == {}
