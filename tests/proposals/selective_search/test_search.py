"""The kernels against the slow reference, to the last label and box."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frcnn_cli.core.boxes import iou
from frcnn_cli.proposals.selective_search.colour import SPACES, blurred
from frcnn_cli.proposals.selective_search.grouping import group
from frcnn_cli.proposals.selective_search.regions import atoms, describe, gather
from frcnn_cli.proposals.selective_search.search import SIMILARITIES, selective_search
from frcnn_cli.proposals.selective_search.segmentation import segment, sorted_edges
from tests.proposals.selective_search import reference

MIXES = ["CTSF", "TSF", "C", "T", "S", "F", "CS"]


@st.composite
def images(draw, largest=12):
    """Small images: blotches of few colours, with or without noise, so that ties and flat parts are common."""
    height, width = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    channels = draw(st.sampled_from([1, 3]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    coarse = rng.integers(0, 256, (height // 4 + 1, width // 4 + 1, channels))
    image = coarse.repeat(4, 0).repeat(4, 1)[:height, :width]
    noise = draw(st.sampled_from([0, 2, 20, 255]))
    return np.clip(image + rng.integers(-noise, noise + 1, image.shape), 0, 255).astype(np.uint8)


def segmented(image, k, min_size):
    height, width = image.shape[:2]
    labels = np.empty(height * width, np.int32)
    pairs = segment(*sorted_edges(image), height, width, float(k), min_size, labels)
    return labels, pairs


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(images(), st.sampled_from([1, 20, 100, 500]), st.sampled_from([1, 3, 20]))
def test_segmentation_is_the_reference(image, k, min_size):
    labels, pairs = segmented(image, k, min_size)
    expected_labels, expected_pairs = reference.segment(image, k, min_size)
    assert labels.tolist() == expected_labels.tolist()
    assert list(map(tuple, pairs.tolist())) == expected_pairs


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(images(), st.sampled_from(MIXES), st.sampled_from([5, 50]), st.sampled_from([0, 1, 3, 6, 64]))
def test_grouping_is_the_reference(image, mix, k, many):
    """Also where most regions count as crowded, because they have more than `many` neighbours."""
    height, width, channels = image.shape
    labels, pairs = segmented(image, k, 2)
    atom, members = atoms(labels[None], width)
    described = gather(members[:, 0], *describe(image, atom, len(members)))
    use = np.array([letter in mix for letter in SIMILARITIES])
    boxes = group(pairs, *described, channels, height * width, use, many)
    assert list(map(tuple, boxes.tolist())) == reference.group(image, labels, list(map(tuple, pairs.tolist())), mix)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(images(largest=16), st.lists(st.sampled_from(MIXES), min_size=1, max_size=2, unique=True))
def test_the_whole_search_finds_the_boxes_of_the_reference(image, mixes):
    """Every box of every hierarchy, each once."""
    pixels = image if image.shape[2] == 3 else np.repeat(image, 3, axis=2)
    expected = set()
    for k in (5, 60):
        labels, pairs = reference.segment(pixels, k, 2)
        for mix in mixes:
            expected |= set(reference.group(pixels, labels, pairs, mix))
    found = selective_search(pixels, ["rgb"], (5, 60), mixes, 0.0, 2, 1.0, agreed=0, seed=0)
    assert sorted(map(tuple, found.astype(int).tolist())) == sorted(expected)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(images(), st.lists(st.sampled_from([1, 10, 60, 300]), min_size=1, max_size=4))
def test_regions_of_every_scale_are_described_as_if_alone(image, scales):
    width = image.shape[1]
    labels = np.stack([segmented(image, k, 1)[0] for k in scales])
    atom, members = atoms(labels, width)
    assert (labels == members[atom].T).all()
    assert len({tuple(row) for row in members.tolist()}) == len(members), "one atom for one combination of labels"
    described = describe(image, atom, len(members))
    for i in range(len(scales)):
        sizes, boxes, counts = gather(members[:, i], *described)
        for r in range(labels[i].max() + 1):
            pixels = np.flatnonzero(labels[i] == r)
            region = reference.Region(image, pixels)
            assert sizes[r] == len(pixels)
            assert tuple(boxes[r]) == region.box
            assert counts[r].tolist() == np.concatenate(reference.histograms(image, pixels)).tolist()


def test_a_crowd_on_one_background():
    """900 spots whose only neighbour is the background, with many ties."""
    rng = np.random.default_rng(0)
    image = np.full((180, 180, 1), 200, np.uint8)
    for y in range(2, 180, 6):
        for x in range(2, 180, 6):
            image[y : y + 3, x : x + 3] = rng.integers(0, 12) * 10
    labels, pairs = segmented(image, 1, 1)
    atom, members = atoms(labels[None], 180)
    described = gather(members[:, 0], *describe(image, atom, len(members)))
    for mix in MIXES:
        use = np.array([letter in mix for letter in SIMILARITIES])
        few, none = (group(pairs, *described, 1, 180 * 180, use, many) for many in (64, 1 << 30))
        assert len(few) > 1800
        assert np.array_equal(few, none), mix


@pytest.mark.parametrize("mix", MIXES)
def test_several_crowded_regions(mix):
    """Hubs that are neighbours of each other and of most of 600 regions: more pairs than the heaps begin with."""
    rng = np.random.default_rng(0)
    regions, hubs = 600, 5
    pairs = {(i, i + 1) for i in range(regions - 1)}
    pairs |= {(a, b) for a in range(hubs) for b in range(a + 1, regions) if b < hubs or rng.random() < 0.7}
    corners = rng.integers(0, 100, (regions, 2))
    boxes = np.concatenate([corners, corners + rng.integers(1, 40, (regions, 2))], axis=1).astype(np.int32)
    sizes = rng.integers(1, 50, regions)
    counts = rng.multinomial(40, np.full(25 + 80, 1 / 105), regions).astype(np.int32)
    use = np.array([letter in mix for letter in SIMILARITIES])
    arguments = (np.array(sorted(pairs), np.int32), sizes, boxes, counts, 1, int(sizes.sum()), use)
    expected = group(*arguments, 1 << 30)
    assert len(pairs) > 2000
    for many in (2, 8, 64):
        assert np.array_equal(group(*arguments, many), expected)


def test_many_atoms_outgrow_the_first_table():
    """More combinations of labels than the table begins with, and far more than fit a quarter of it."""
    labels = np.stack([np.arange(9000), np.arange(9000)[::-1] // 2]).astype(np.int32)
    atom, members = atoms(labels, 90)
    assert atom.tolist() == list(range(9000))
    assert (labels == members.T).all()


def scene():
    rng = np.random.default_rng(1)
    image = np.full((80, 100, 3), 120, np.uint8)
    image[20:50, 10:40] = (220, 40, 40)
    image[30:70, 55:90] = (30, 60, 220)
    return np.clip(image + rng.integers(-6, 7, image.shape), 0, 255).astype(np.uint8)


def search(pixels, seed=0, **changed):
    options = {
        "colours": ["lab"],
        "scales": [50, 150],
        "mixes": ["CTSF"],
        "sigma": 0.8,
        "min_region": 20,
        "max_iou": 1.0,
        "agreed": 0,
    }
    return selective_search(pixels, **(options | changed), seed=seed)


def test_the_objects_of_a_plain_scene_are_found_to_the_pixel():
    found = {tuple(box) for box in search(scene()).tolist()}
    for box in [(10, 20, 40, 50), (55, 30, 90, 70)]:
        assert any(np.abs(np.subtract(box, other)).max() <= 1 for other in found), box
    assert (0, 0, 100, 80) in found, "the root of the hierarchy"


def test_each_box_comes_once_and_the_seed_changes_the_order_alone():
    first, second = search(scene(), seed=1), search(scene(), seed=2)
    assert len(np.unique(first, axis=0)) == len(first)
    assert not np.array_equal(first, second)
    assert sorted(map(tuple, first)) == sorted(map(tuple, second))
    assert np.array_equal(first, search(scene(), seed=1))


def test_nearly_equal_boxes_are_left_out():
    every, some = search(scene()), search(scene(), max_iou=0.7)
    expected = []
    for box in every:
        if not expected or iou(box[None], np.array(expected)).max() <= 0.7:
            expected.append(box)
    assert 1 < len(some) < len(every)
    np.testing.assert_array_equal(some, expected)


def test_the_whole_image_comes_early():
    """Its position is 1: over many seeds its place is far above the middle."""
    places = [np.flatnonzero((search(scene(), seed=s) == [0, 0, 100, 80]).all(axis=1))[0] for s in range(20)]
    assert np.median(places) < len(search(scene())) / 10


@pytest.mark.parametrize("space", SPACES)
def test_every_colour_space_spreads_over_eight_bits(space):
    rng = np.random.default_rng(0)
    image = blurred(rng.integers(0, 256, (60, 70, 3), dtype=np.uint8), space, 0.0)
    assert image.dtype == np.uint8
    assert image.shape[:2] == (60, 70)
    assert (image.max(axis=(0, 1)) - image.min(axis=(0, 1)) > 120).all()
    assert len(search(scene(), colours=[space])) > 3


def test_rgi_is_what_its_name_says():
    pixel = np.array([[[200, 100, 0], [0, 0, 0], [255, 255, 255]]], np.uint8)
    assert blurred(pixel, "rgi", 0.0).tolist() == [[[170, 85, 100], [0, 0, 0], [85, 85, 255]]]


def test_hue_is_the_angle_of_the_colour():
    pixels = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [128, 0, 0]]], np.uint8)
    hues = blurred(pixels, "hue", 0.0)
    assert hues.shape == (1, 4, 1)
    np.testing.assert_allclose(hues.ravel(), [0, 85, 170, 0], atol=1)


@pytest.mark.parametrize("sigma", [0.8, 2.0])
def test_blur_is_of_the_sigma_that_is_asked_for(sigma):
    spot = np.zeros((41, 41, 3), np.uint8)
    spot[20, 20] = 255
    profile = blurred(np.repeat(spot, 1, 0), "rgb", sigma)[:, :, 0].sum(axis=0, dtype=float)
    spread = np.sqrt((profile * (np.arange(41) - 20) ** 2).sum() / profile.sum())
    assert spread == pytest.approx(sigma, abs=0.3 if sigma > 1 else 0.1)
