"""The table of `frcnn doctor --gpu`; where there is no GPU, the device is the CPU and kernels run in an interpreter."""

import pytest
import torch

from frcnn_cli.report import gpu_check
from frcnn_cli.report.gpu_check import Check, check_gpu
from tests.conftest import assert_one_line_error, run_frcnn


@pytest.fixture
def kernels_pass(monkeypatch):
    monkeypatch.setattr(gpu_check, "problem_of", lambda *arguments: "")


def test_a_device_that_computes_the_same(kernels_pass):
    checks = check_gpu(torch.device("cpu"))
    assert [check.what for check in checks if check.problem] == []
    assert {check.dtype for check in checks} == {"float32", "float16", "bfloat16"}
    assert len(checks) == 6 + 2 + 2


def test_differences_and_exceptions_are_reported(monkeypatch):
    def fails(*arguments):
        raise RuntimeError("no kernel image\nis available")

    monkeypatch.setattr(gpu_check, "problem_of", fails)
    scores = iter([torch.full((2, 3), 0.5), torch.zeros(2, 3)] * 4)
    monkeypatch.setattr(gpu_check, "_scores", lambda *arguments: next(scores))
    problems = {check.what: check.problem for check in check_gpu(torch.device("cpu"))}
    assert problems["RoI max pooling, Triton and torchvision"] == "RuntimeError: no kernel image is available"
    assert problems["detection, GPU and CPU"].startswith("probabilities differ by 1 of the largest")


@pytest.mark.parametrize("problem", ["", "its output differs from torchvision's by 1"])
def test_the_command_prints_a_table(monkeypatch, problem):
    monkeypatch.setattr(gpu_check, "check_gpu", lambda device: [Check("RoI max pooling", "float16", problem, 0.25)])
    monkeypatch.setattr("frcnn_cli.system.device.choose_device", lambda name: torch.device("cpu"))
    done = run_frcnn("doctor", "--gpu")
    assert (problem or "equal") in " ".join(done.out.split())
    if problem:
        assert_one_line_error(done, "1 of 1 checks failed")
    else:
        assert done.code == 0
    assert run_frcnn("doctor", "--gpu", "--json").json["checks"][0]["dtype"] == "float16"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu():
    assert_one_line_error(run_frcnn("doctor", "--gpu"), "there is no GPU that PyTorch can use")
