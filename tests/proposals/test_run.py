"""Many images: nothing depends on workers or order, and one bad image does not lose the others."""

import multiprocessing
import pickle
import time

import numpy as np
import pytest
from PIL import Image as Pillow

from frcnn_cli.core.decoding import read_ref
from frcnn_cli.core.errors import SourceError
from frcnn_cli.core.find import find_images
from frcnn_cli.proposals.propose import Limits
from frcnn_cli.proposals.sources.opencv import OpenCVSelectiveSearch
from frcnn_cli.proposals.workers import propose_many
from tests.proposals.sources_for_tests import Moody, Sleepy


@pytest.fixture
def refs(tmp_path):
    rng = np.random.default_rng(0)
    for width in range(5, 13):
        Pillow.fromarray(rng.integers(0, 256, (30, width * 4, 3), dtype=np.uint8)).save(tmp_path / f"{width:02d}.png")
    return find_images([str(tmp_path)])


def by_key(outcomes):
    return {outcome.ref.key: outcome for outcome in outcomes}


def test_workers_and_order_change_nothing(refs):
    source, limits = OpenCVSelectiveSearch(), Limits(min_size=5)
    alone = by_key(propose_many(refs, source, read_ref, limits, workers=0))
    together = by_key(propose_many(refs[::-1], source, read_ref, limits, workers=3))
    assert alone.keys() == together.keys() == {ref.key for ref in refs}
    for key, outcome in alone.items():
        assert outcome.record == together[key].record
        np.testing.assert_array_equal(outcome.proposals.boxes, together[key].proposals.boxes)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_failure_is_the_images_alone(tmp_path, refs, workers):
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    for width in (8,):
        Pillow.new("RGB", (width, 9)).save(tmp_path / "raises.png")
    found = by_key(propose_many(find_images([str(tmp_path)]), Moody(), read_ref, Limits(min_size=0), workers))
    failed = {key: outcome.error for key, outcome in found.items() if outcome.error}
    assert set(failed) == {"bad.jpg", "raises.png"}
    assert "not this one" in str(failed["raises.png"])
    assert len(found) == len(refs) + 2


@pytest.mark.parametrize("workers", [1, 2])
def test_a_source_that_ends_its_process_is_named_and_the_rest_go_on(tmp_path, refs, workers):
    Pillow.new("RGB", (7, 9)).save(tmp_path / "00-kills.png")
    Pillow.new("RGB", (7, 9)).save(tmp_path / "99-kills.png")
    found = by_key(propose_many(find_images([str(tmp_path)]), Moody(), read_ref, Limits(min_size=0), workers))
    failed = {key: str(outcome.error) for key, outcome in found.items() if outcome.error}
    assert set(failed) == {"00-kills.png", "99-kills.png"}
    assert "exit code 3" in failed["00-kills.png"]
    assert len(found) == len(refs) + 2


def test_no_images_at_all():
    assert list(propose_many([], Moody(), read_ref, workers=4)) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_an_image_that_takes_too_long_is_named_and_the_rest_go_on(tmp_path, refs, workers):
    Pillow.new("RGB", (7, 9)).save(tmp_path / "00-sleeps.png")
    Pillow.new("RGB", (7, 9)).save(tmp_path / "07-sleeps.png")
    every = find_images([str(tmp_path)])
    found = by_key(propose_many(every, Sleepy(), read_ref, Limits(min_size=0), workers, timeout=4))
    failed = {key: str(outcome.error) for key, outcome in found.items() if outcome.error}
    assert set(failed) == {"00-sleeps.png", "07-sleeps.png"}
    assert "took longer than 4 s" in failed["00-sleeps.png"]
    assert len(found) == len(every)


def test_a_worker_that_cannot_begin_ends_the_run_by_name(refs):
    class Unknown(Moody):
        """Of a function: no other process can import it."""

    with pytest.raises((SourceError, AttributeError, pickle.PicklingError)):
        list(propose_many(refs, Unknown(), read_ref, workers=1))


def test_stopping_early_leaves_no_process(refs):
    outcomes = propose_many(refs, Moody(), read_ref, Limits(min_size=0), workers=2)
    next(outcomes)
    processes = multiprocessing.active_children()
    assert len(processes) == 2
    outcomes.close()
    assert not any(process.is_alive() for process in processes)


def test_images_that_are_done_are_not_late_because_nobody_asks(refs):
    """The clock of an image ends when it is done, however long its outcome waits."""
    found = []
    for outcome in propose_many(refs, Moody(), read_ref, Limits(min_size=0), workers=2, timeout=4):
        time.sleep(4.5 if not found else 0)
        found.append(outcome)
    assert len(found) == len(refs)
    assert not any(outcome.error for outcome in found)
