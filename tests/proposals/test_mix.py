"""Several sources as one: in turn, equal boxes once, set and recorded part by part."""

import json

import numpy as np
import pytest

from frcnn_cli.core.errors import SourceError, UsageError
from frcnn_cli.core.image import Image
from frcnn_cli.proposals.propose import Limits, propose
from frcnn_cli.proposals.registry import load_registry
from frcnn_cli.proposals.source import Proposals
from frcnn_cli.proposals.sources.mix import Mix
from frcnn_cli.proposals.sources.opencv import OpenCVSelectiveSearch
from frcnn_cli.proposals.sources.selective_search import SelectiveSearch
from frcnn_cli.testing import check_proposal_source
from tests.conftest import assert_one_line_error, run_frcnn
from tests.proposals.sources_for_tests import breaking

IMAGE = Image.from_array(np.zeros((100, 100, 3), np.uint8))


def boxes(*sizes):
    return np.array([[0, 0, size, size] for size in sizes], np.float32)


def test_boxes_are_taken_in_turn_and_equal_ones_once():
    unscored = breaking(lambda image: boxes(10, 20, 30, 40))
    scored = breaking(lambda image: Proposals(boxes(50, 20, 60), np.array([0.1, 0.9, 0.5], np.float32)))
    found = propose(IMAGE, Mix((unscored, scored)), Limits(min_size=0))
    assert found.scores is None
    assert found.boxes[:, 2].tolist() == [10, 20, 60, 30, 50, 40]


def test_it_keeps_the_contract():
    check_proposal_source(Mix((SelectiveSearch(), OpenCVSelectiveSearch(mode="single"))))


def test_it_comes_back_from_what_is_recorded():
    mix = Mix((SelectiveSearch(preset="quality"), OpenCVSelectiveSearch(mode="single")))
    described = json.loads(json.dumps(mix.described()))
    assert load_registry().restored(described) == mix
    described["options"]["sources"][1]["version"] = "0"
    with pytest.raises(SourceError, match="made with opencv-selective-search 0"):
        load_registry().restored(described)


@pytest.mark.parametrize("values", [{}, {"sources": "mix"}, {"sources": "selective-search", "k": "1"}])
def test_nonsense_is_refused(values):
    with pytest.raises(UsageError):
        Mix.configured(values)


def test_on_the_command_line(tmp_path, photo):
    props = tmp_path / "p.h5"
    line = ("proposals", photo, "-o", props, "--workers", 0)
    two = ("--source", "selective-search", "--source", "opencv-selective-search")
    ran = run_frcnn(*line, *two, "--set", "selective-search.k=50", "--set", "opencv-selective-search.mode=single")
    assert ran.code == 0, ran.err
    parts = json.loads(run_frcnn("inspect", props, "--json").out)["provenance"]["source"]["options"]["sources"]
    assert [part["name"] for part in parts] == ["selective-search", "opencv-selective-search"]
    assert parts[0]["options"]["k"] == [50]
    assert parts[1]["options"]["mode"] == "single"
    props.unlink()
    assert run_frcnn(*line, "--source", "mix", "--set", "sources=selective-search,sliding-window").code == 0
    props.unlink()
    assert_one_line_error(run_frcnn(*line, *two, "--set", "k=50"), "does not state its source", code=2)
    assert_one_line_error(run_frcnn(*line, *two, "--set", "file.path=x"), "not among the sources", code=2)
    assert_one_line_error(run_frcnn(*line, *two, *two), "named twice", code=2)
