"""Pooling, coder, head and scoring against slow, obvious references."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from frcnn_cli.roi.box_coder import MAX_LOG_GROWTH, decode, encode
from frcnn_cli.roi.head import FullyConnectedHead
from frcnn_cli.roi.pooler import RoIPooler, Windows
from frcnn_cli.roi.pooling import roi_max_pool
from frcnn_cli.roi.rois import RoIs
from frcnn_cli.roi.score import score_boxes


def slow_roi_max_pool(features, rois, bins, spatial_scale):
    """The definition, one cell at a time. features [B, C, h, w], rois [R, 5] -> [R, C, rows, columns]."""

    def rounded(value):  # half away from zero
        return int(math.floor(abs(value) + 0.5) * math.copysign(1, value))

    _, channels, height, width = features.shape
    rows, columns = bins
    out = np.zeros((len(rois), channels, rows, columns), features.dtype)
    for r, (index, *corners) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (rounded(np.float32(v) * np.float32(spatial_scale)) for v in corners)
        w, h = max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)
        for i in range(rows):
            for j in range(columns):
                top, bottom = y1 + (i * h) // rows, y1 + -(-(i + 1) * h // rows)
                left, right = x1 + (j * w) // columns, x1 + -(-(j + 1) * w // columns)
                top, bottom = (min(max(v, 0), height) for v in (top, bottom))
                left, right = (min(max(v, 0), width) for v in (left, right))
                if top < bottom and left < right:
                    out[r, :, i, j] = features[int(index), :, top:bottom, left:right].max(axis=(1, 2))
    return out


coordinate = st.floats(-40, 240, width=32)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), coordinate, coordinate, coordinate, coordinate), max_size=6),
    st.sampled_from([(1, 1), (2, 2), (7, 7), (2, 5), (7, 3)]),
    st.integers(0, 2**16),
)
def test_pooling_equals_the_definition(rois, bins, seed):
    features = np.random.default_rng(seed).normal(size=(2, 3, 9, 12)).astype(np.float32)
    rois = np.array(rois, np.float32).reshape(-1, 5)
    found = roi_max_pool(torch.from_numpy(features), torch.from_numpy(rois), bins, 1 / 16)
    np.testing.assert_array_equal(found.numpy(), slow_roi_max_pool(features, rois, bins, 1 / 16))


def test_a_roi_smaller_than_the_grid_repeats_its_cells():
    features = torch.arange(12.0).reshape(1, 1, 3, 4)
    pooled = roi_max_pool(features, torch.tensor([[0, 16.0, 16.0, 32.0, 32.0]]), 4, 1 / 16)
    assert pooled[0, 0].tolist() == [[5, 5, 6, 6], [5, 5, 6, 6], [9, 9, 10, 10], [9, 9, 10, 10]]


def test_an_empty_bin_is_zero_and_has_no_gradient():
    features = torch.full((1, 1, 4, 4), -3.0, requires_grad=True)
    pooled = roi_max_pool(features, torch.tensor([[0, 500.0, 500.0, 600.0, 600.0]]), 2, 1 / 16)
    assert pooled.tolist() == [[[[0, 0], [0, 0]]]]
    pooled.sum().backward()
    assert features.grad.abs().sum() == 0


def test_windows_of_max_pooling_end_inside_the_box_and_those_of_align_at_its_corner():
    rois = RoIs.of_images([[], np.array([[10, 20, 31, 41]], np.float32)], [1.0, 2.0])
    assert RoIPooler("max", (7, 7), (16,)).windows(rois).corners.tolist() == [[1, 20, 40, 60, 80]]
    aligned = RoIPooler("align", (7, 7), (16,), cell_offsets=(0.5,))
    assert aligned.windows(rois).corners.tolist() == [[1, 19.5, 39.5, 61.5, 81.5]]
    nothing = RoIs.of_images([np.zeros((0, 4), np.float32)], [1.0])
    assert RoIPooler("max", (7, 7), (16,)).windows(nothing).corners.shape == (0, 5)


sides = st.floats(1, 300, width=32)
starts = st.floats(0, 300, width=32)


def box(draw):
    x, y, w, h = draw
    return [x, y, x + w, y + h]


boxes = st.tuples(starts, starts, sides, sides).map(box)


@given(st.lists(st.tuples(boxes, boxes), min_size=1, max_size=8))
def test_decoding_undoes_encoding(pairs):
    proposals, targets = (np.array(side, np.float32) for side in zip(*pairs, strict=True))
    growth = np.log((targets[:, 2:] - targets[:, :2]) / (proposals[:, 2:] - proposals[:, :2]))
    found = decode(proposals, encode(proposals, targets)[:, None])[:, 0]
    kept = (growth < MAX_LOG_GROWTH).all(axis=1)
    np.testing.assert_allclose(found[kept], targets[kept], atol=0.02)


def test_deltas_by_hand():
    found = encode(np.array([[0, 0, 10, 20]]), np.array([[5, 0, 25, 20]]))
    np.testing.assert_allclose(found, [[1.0, 0.0, math.log(2), 0.0]], rtol=1e-6)


def test_wild_deltas_and_degenerate_proposals_stay_finite():
    found = decode(np.array([[5, 5, 5, 5], [0, 0, 10, 10]], np.float32), np.full((2, 1, 4), 1e6, np.float32))
    assert np.isfinite(found).all()
    assert np.isfinite(encode(np.array([[5, 5, 5, 5]]), np.array([[0, 0, 9, 9]]))).all()


def head(classes=2, channels=3, grid=2, hidden=8):
    torch.manual_seed(0)
    layers = nn.Linear(channels * grid * grid, hidden), nn.Linear(hidden, hidden)
    return FullyConnectedHead(layers, RoIPooler("max", (grid, grid), (16,)), classes).eval()


def rois_of(*boxes):
    """RoIs of one image that is not resized."""
    return RoIs.of_images([np.array(boxes, np.float32)], [1.0])


def test_initial_spreads_are_the_papers():
    torch.manual_seed(0)
    made = FullyConnectedHead((nn.Linear(4, 4096), nn.Linear(4096, 4096)), RoIPooler("max", (1, 1), (16,)), 20)
    assert made.cls_score.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert made.bbox_pred.weight.std().item() == pytest.approx(0.001, rel=0.02)
    assert made.bbox_pred.out_features == 84
    assert made.cls_score.bias.abs().sum() == made.bbox_pred.bias.abs().sum() == 0


def test_folding_gives_plain_deltas():
    made = head()
    features, rois = torch.rand(1, 3, 6, 6), rois_of([0, 0, 50, 50])
    mean, std = torch.rand(3, 4), torch.rand(3, 4) + 0.1
    _, before = made(features, rois)
    made.fold_normalisation(mean, std)
    _, after = made(features, rois)
    torch.testing.assert_close(after, before * std + mean)


def test_scores_in_chunks_equal_scores_at_once(monkeypatch):
    from frcnn_cli.roi import head as module

    made = head()
    features = torch.rand(1, 3, 8, 8)
    candidates = np.random.default_rng(0).random((23, 4)).astype(np.float32) * 60
    candidates[:, 2:] += candidates[:, :2] + 1
    whole = score_boxes(made, features, candidates, 1.0, 120, 120)
    monkeypatch.setattr(module, "_MAX_POOLED_NUMBERS", 5 * features.shape[1] * made.pooler.bins)
    parts = score_boxes(made, features, candidates, 1.0, 120, 120)
    np.testing.assert_allclose(parts.probabilities, whole.probabilities, atol=1e-6)
    np.testing.assert_allclose(parts.boxes, whole.boxes, atol=1e-3)
    assert whole.probabilities.shape == (23, 3)
    assert whole.boxes.shape == (23, 2, 4)
    np.testing.assert_allclose(whole.probabilities.sum(axis=1), 1, atol=1e-6)
    assert (whole.boxes >= 0).all()
    assert (whole.boxes <= 120).all()


def test_the_hidden_layer_reads_what_a_classification_network_reads():
    torch.manual_seed(0)
    fc6, fc7 = nn.Linear(3 * 2 * 2, 8), nn.Linear(8, 8)
    weight = fc6.weight.detach().clone()
    made = FullyConnectedHead((fc6, fc7), RoIPooler("max", (2, 2), (16,)), 2).eval()
    features, rois = torch.rand(1, 3, 6, 6), rois_of([0, 0, 50, 50], [16, 16, 80, 30])
    windows = torch.tensor([[0, 0, 0, 49.0, 49.0], [0, 16, 16, 79, 29]])
    pooled = roi_max_pool(features, windows, 2, 1 / 16).flatten(1)  # [C, S, S]
    hidden = torch.relu(fc7(torch.relu(pooled @ weight.T + fc6.bias)))
    logits, deltas = made(features, rois)
    torch.testing.assert_close(logits, made.cls_score(hidden))
    torch.testing.assert_close(deltas.flatten(1), made.bbox_pred(hidden))


boxes_in_cells = st.lists(st.tuples(*[st.floats(-20, 200, width=32)] * 4), min_size=1, max_size=12)


@given(boxes_in_cells)
def test_rois_are_grouped_if_and_only_if_pooling_cannot_tell_them_apart(corners):
    rois = torch.cat([torch.zeros(len(corners), 1), torch.tensor(corners)], 1)
    windows = Windows(rois, torch.zeros(len(rois), dtype=torch.int64))
    first, group = RoIPooler("max", (7, 7), (16,)).unique(windows)
    cells = []
    for _, *values in rois.tolist():
        x1, y1, x2, y2 = (math.floor(abs(v / 16) + 0.5) * (1 if v >= 0 else -1) for v in values)
        cells.append((x1, y1, max(x1, x2), max(y1, y2)))
    assert [cells[first[g]] for g in group] == cells
    assert len(first) == len(set(cells))


def test_equal_rois_go_through_the_head_once(monkeypatch):
    made = head()
    counts = []
    whole = made.through_hidden
    monkeypatch.setattr(made, "through_hidden", lambda pooled, drop: counts.append(len(pooled)) or whole(pooled))
    candidates = np.array([[0, 0, 50, 50], [16, 16, 64, 64], [1, 1, 51, 50], [0, 0, 50, 50]], np.float32)
    found = score_boxes(made, torch.rand(1, 3, 8, 8), candidates, 1.0, 120, 120)
    assert counts == [2]
    np.testing.assert_array_equal(found.probabilities[[0, 0]], found.probabilities[[2, 3]])
    assert not np.array_equal(found.boxes[0], found.boxes[2]), "their boxes are refined from where they are"


def test_no_proposals():
    found = score_boxes(head(), torch.rand(1, 3, 8, 8), np.zeros((0, 4), np.float32), 1.0, 10, 10)
    assert found.probabilities.shape == (0, 3)
    assert found.boxes.shape == (0, 2, 4)


def test_a_grid_that_is_not_square(tmp_path):
    """Rows come first, as in the paper's H x W; the head reads as many bins, and a saved model has them too."""
    from frcnn_cli.detector.config import NO_PROPOSALS, ModelConfig, image_transform
    from frcnn_cli.detector.detector import Detector
    from frcnn_cli.features.backbones import build
    from frcnn_cli.recipes.recipe import Recipe

    recipe = Recipe().changed({"network.backbone": "small", "network.grid": "3,5", "images.short_side": 0})
    config = ModelConfig(recipe.network, ("a", "b"), image_transform(recipe), NO_PROPOSALS, recipe=recipe.to_dict())
    made = Detector(config, build("small", grid=(3, 5))).eval()
    assert made.head.pooler.grid == (3, 5)
    assert made.head.fc6.in_features == 64 * 15
    made.save(tmp_path / "model.safetensors")
    again = Detector.load(tmp_path, "cpu")
    assert again.model_id == made.model_id
    image = torch.rand(1, 3, 48, 64)
    rois = RoIs.of_images([np.array([[2, 3, 40, 44], [0, 0, 64, 48]], np.float32)], [1.0])
    with torch.no_grad():
        for ours, theirs in zip(again(image, rois), made(image, rois), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_the_weights_that_read_the_grid_of_the_backbone_are_kept():
    from frcnn_cli.features.backbones import build

    usual = build("small")
    before = usual.hidden
    usual.set_grid(7, 7)
    assert usual.hidden is before
    usual.set_grid(2, 7)
    assert usual.hidden[0].in_features == 64 * 14
    assert usual.hidden[1] is before[1]
    deep = build("resnet18")
    hidden = deep.hidden
    deep.set_grid(6, 10)
    assert (deep.grid, deep.hidden) == ((6, 10), hidden)


def test_an_output_size_of_three_numbers_is_refused():
    for size in ((1, 2, 3), (0, 2), (2, -1), 0):
        with pytest.raises(ValueError, match="output size"):
            roi_max_pool(torch.zeros(1, 1, 2, 2), torch.zeros(1, 5), size, 1.0)


def test_boxes_grow_at_most_by_detectrons_bound():
    boxes = decode(np.array([[0, 0, 16, 32]]), np.array([[[0, 0, 50.0, 50.0]]]))
    np.testing.assert_allclose(boxes[0, 0, 2:] - boxes[0, 0, :2], [1000, 2000], rtol=1e-6)


@pytest.mark.parametrize("shape", [(4,), (2, 3), (2, 5), (2, 1, 4), (2, 4, 1)])
def test_shapes_that_are_no_boxes(shape):
    with pytest.raises(ValueError, match="expected two arrays"):
        encode(np.ones(shape), np.ones(shape))


@pytest.mark.parametrize(
    ("proposals", "deltas"), [((2, 4), (2, 4)), ((2, 4), (2, 1, 1, 4)), ((4,), (4, 1, 4)), ((2, 4), (2, 1, 5))]
)
def test_shapes_that_cannot_be_decoded(proposals, deltas):
    with pytest.raises(ValueError, match=r"expected \[N, 4\] and \[N, K, 4\]"):
        decode(np.ones(proposals), np.ones(deltas))
