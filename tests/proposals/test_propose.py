import numpy as np
import pytest

from frcnn_cli import propose
from frcnn_cli.core.errors import SourceError
from frcnn_cli.core.image import Image
from frcnn_cli.proposals.propose import Limits
from frcnn_cli.proposals.ranking import by_size_and_chance, content_seed
from frcnn_cli.proposals.source import Proposals
from frcnn_cli.proposals.sources.opencv import OpenCVSelectiveSearch
from tests.proposals.sources_for_tests import Good, breaking

IMAGE = Image.from_array(np.zeros((100, 120, 3), np.uint8))


def returning(boxes, scores=None):
    scores = None if scores is None else np.array(scores, np.float32)
    return breaking(lambda image: Proposals(np.array(boxes, np.float32).reshape(-1, 4), scores))


def test_scores_rank_and_ties_keep_their_order():
    boxes = [[0, 0, 30, 30], [0, 0, 40, 40], [0, 0, 50, 50]]
    found = propose(IMAGE, returning(boxes, [0.1, 0.9, 0.1]))
    assert found.boxes.tolist() == [boxes[1], boxes[0], boxes[2]]
    assert found.scores.tolist() == pytest.approx([0.9, 0.1, 0.1])


def test_small_and_equal_boxes_are_dropped_before_the_cut():
    boxes = [[0, 0, 19, 90], [5, 5, 25, 25], [0, 0, 90, 19.5], [5, 5, 25, 25], [0, 0, 60, 60], [0, 0, 70, 70]]
    found = propose(IMAGE, returning(boxes), Limits(max_boxes=2, min_size=20))
    assert found.boxes.tolist() == [boxes[1], boxes[4]]
    assert found.scores is None


def test_no_boxes_are_fine():
    assert propose(IMAGE, returning([])).boxes.shape == (0, 4)


def test_arrays_are_images_too():
    assert len(propose(np.zeros((100, 120, 3), np.uint8), Good()).boxes) == 2


def test_a_failing_source_is_named_with_the_image():
    def fail(image):
        raise ZeroDivisionError("oops")

    with pytest.raises(SourceError, match="'breaking' failed on image.*ZeroDivisionError: oops"):
        propose(IMAGE, breaking(fail))


def scene(seed=0):
    from frcnn_cli.testing import test_images

    return next(iter(test_images()))


def test_opencv_order_is_the_same_in_every_call_and_after_other_work():
    source = OpenCVSelectiveSearch()
    first = propose(scene(), source, Limits(min_size=0)).boxes
    propose(IMAGE, source)
    np.testing.assert_array_equal(propose(scene(), source, Limits(min_size=0)).boxes, first)


def test_ranking_is_a_permutation_that_ignores_the_order_given():
    rng = np.random.default_rng(3)
    boxes = np.sort(rng.random((50, 4)).astype(np.float32), axis=1)[:, [0, 1, 2, 3]]
    order = by_size_and_chance(boxes, seed=1)
    assert sorted(order) == list(range(50))
    shuffled = boxes[rng.permutation(50)]
    np.testing.assert_array_equal(shuffled[by_size_and_chance(shuffled, seed=1)], boxes[order])
    assert not np.array_equal(order, by_size_and_chance(boxes, seed=2))
    assert len(by_size_and_chance(boxes[:0], seed=1)) == 0


def test_large_boxes_tend_to_come_first():
    boxes = np.zeros((1000, 4), np.float32)
    boxes[:, 2:] = np.arange(1, 1001)[:, None]
    places = np.argsort(by_size_and_chance(boxes, seed=0))
    assert places[-100:].mean() < 0.5 * places[:100].mean()


def test_the_seed_is_of_the_content():
    pixels = np.arange(300, dtype=np.uint8).reshape(10, 10, 3)
    assert content_seed(pixels) == content_seed(np.asfortranarray(pixels)) != content_seed(pixels[::-1])


def test_a_source_that_asks_to_exit_is_a_failing_source():
    def leave(image):
        raise SystemExit(0)

    with pytest.raises(SourceError, match="SystemExit"):
        propose(IMAGE, breaking(leave))
