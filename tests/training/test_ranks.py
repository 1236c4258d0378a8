"""Training on several devices equals training on one: against the definition bit by bit, and within rounding."""

import time

import numpy as np
import pytest

from frcnn_cli.core.errors import DataError, FrcnnError, UsageError
from frcnn_cli.core.progress import Progress
from frcnn_cli.data.synthetic import make_dataset
from frcnn_cli.training.launch import run_ranks
from frcnn_cli.training.ranks import Ranks, check_ranks
from tests.conftest import run_frcnn
from tests.training import ranks_work as work


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Images of different sizes, so that padding matters."""
    folder = tmp_path_factory.mktemp("ranks")
    make_dataset(folder / "voc", train=14, test=5, seed=3, size=(100, 80))
    line = ("proposals", folder / "voc" / "JPEGImages", "-o", folder / "props.h5", "--source", "sliding-window")
    assert run_frcnn(*line, "--workers", 0).code == 0
    return {"data": f"voc:{folder / 'voc'}", "props": str(folder / "props.h5")}


def difference(found, expected):
    """The largest difference of weights, relative to the largest weight."""
    largest = max(np.abs(value).max() for value in expected.values())
    return float(max(np.abs(found[name] - expected[name]).max() for name in expected) / largest)


@pytest.mark.parametrize("dropout", [0.5, pytest.param(0.0, marks=pytest.mark.slow)])
def test_two_ranks_of_one_image_are_bit_identical_to_one_image_after_the_other(tmp_path, data, dropout):
    changes = {"sampling.images": 2, "network.dropout": dropout}
    arguments = {**data, "changes": changes, "iterations": 50}
    found, losses = work.on_ranks(2, work.train, folder=tmp_path / "ranks", **arguments)
    expected = work.one_after_the_other(folder=tmp_path / "one", **arguments)
    assert len(losses) == 50
    assert losses[-1] < losses[0]
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], name)


FEW_OR_MANY = [2, pytest.param(3, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)]


@pytest.mark.parametrize("count", FEW_OR_MANY)
def test_equal_to_one_process_in_float64(tmp_path, data, count):
    arguments = {**data, "changes": {"sampling.images": 6}, "iterations": 50, "dtype": "float64"}
    found, losses = work.on_ranks(count, work.train, folder=tmp_path / "ranks", **arguments)
    expected, wanted = work.on_ranks(1, work.train, folder=tmp_path / "one", **arguments)
    assert difference(found, expected) < 1e-10
    np.testing.assert_allclose(losses, wanted, rtol=1e-10)


# In float32, rounding can decide which cell of a bin is the largest, or whether a unit is above zero, and with it where
# a gradient goes. With the learning rate of the other tests, one such decision grows to 5% of a bias in 50 iterations.
LOW_RATE = {"solver.learning_rate": 1e-5}


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3, 4])
def test_equal_to_one_process_in_float32(tmp_path, data, count):
    arguments = {**data, "changes": {"sampling.images": 6} | LOW_RATE}
    found, losses = work.on_ranks(count, work.train, folder=tmp_path / "ranks", iterations=50, **arguments)
    expected, wanted = work.on_ranks(1, work.train, folder=tmp_path / "one", iterations=50, **arguments)
    at_first, _ = work.on_ranks(1, work.train, folder=tmp_path / "short", iterations=1, **arguments)
    assert difference(at_first, expected) > 5e-4  # what is learned
    assert difference(found, expected) < 1e-5
    np.testing.assert_allclose(losses, wanted, rtol=1e-5)


def test_padded_like_the_largest_image_of_all_ranks():
    found = work.on_ranks(2, work.padded, sizes=[(40, 70), (50, 60)])
    assert found == {"0": ((1, 3, 50, 70), 3 * 40 * 70, 1), "1": ((1, 3, 50, 70), 3 * 50 * 60, 1)}


@pytest.mark.slow
def test_validation_is_divided_without_padding(tmp_path, data):
    settings = data | {"validate_on": "test"}
    arguments = {"settings": settings, "changes": {"sampling.images": 3}}
    alone = work.on_ranks(1, work.validate, folder=tmp_path / "one", **arguments)
    assert work.on_ranks(3, work.validate, folder=tmp_path / "three", **arguments) == alone


@pytest.mark.parametrize(("count", "images"), [(2, 5), (3, 3), (4, 6), (1, 2)])
def test_every_image_belongs_to_one_rank(count, images):
    parts = [list(range(images))[Ranks(rank, count).part(images)] for rank in range(count)]
    assert [image for part in parts for image in part] == list(range(images))
    sizes = {len(part) for part in parts}
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1


def test_more_devices_than_images_are_refused():
    check_ranks(2, 2)
    with pytest.raises(UsageError, match=r"3 devices cannot share mini-batches of 2 image"):
        check_ranks(3, 2)


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("killed", FrcnnError, r"rank 1 of 2 \(process \d+\) was ended by SIGKILL"),
        ("exit", FrcnnError, r"rank 1 of 2 \(process \d+\) has ended with exit code 7"),
        ("error", DataError, "the image is gone"),
        ("memory", MemoryError, "the GPU is out of memory"),
        ("disk", OSError, "No space left"),
        ("defect", RuntimeError, r"rank 1 of 2 \(process \d+\): ZeroDivisionError: one line"),
    ],
)
def test_a_rank_that_ends_ends_the_others_and_is_named(how, error, message):
    began = time.monotonic()
    with pytest.raises(error, match=message):
        work.on_ranks(2, work.fail, how=how, rank=1)
    assert time.monotonic() - began < 60


def test_progress_and_warnings_of_the_first_rank_alone_are_shown():
    from contextlib import nullcontext
    from functools import partial

    class Noted(Progress):
        notes: list[str] = []

        def note(self, text):
            self.notes.append(text)

    run_ranks(2, partial(work.fail, how="", rank=-1), nullcontext(lambda: False), Noted())
    run_ranks(2, work.warn, nullcontext(lambda: False), Noted())
    assert Noted.notes == ["begun", "note: a slow kernel"]
