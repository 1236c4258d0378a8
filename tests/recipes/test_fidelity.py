"""The paper's recipe, number by number: each test names the line of the authors' code or of the paper that it proves,
and works it out by itself, by hand or in the plainest code.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from frcnn_cli.core.annotations import GroundTruth
from frcnn_cli.core.boxes import clip, flip_horizontally
from frcnn_cli.core.image import Image
from frcnn_cli.data.pairing import ProposedSample
from frcnn_cli.detections.nms import Thresholds, detections_from_scores, min_scores_of_set, nms
from frcnn_cli.features.backbones import BACKBONES
from frcnn_cli.features.backbones.loading import Weights
from frcnn_cli.features.transform import ImageTransform
from frcnn_cli.recipes.recipe import Recipe
from frcnn_cli.roi.box_coder import decode, encode
from frcnn_cli.roi.head import FullyConnectedHead
from frcnn_cli.roi.pooler import RoIPooler
from frcnn_cli.roi.pooling import roi_max_pool
from frcnn_cli.roi.rois import RoIs
from frcnn_cli.roi.svd import truncated
from frcnn_cli.training.batches import Batches
from frcnn_cli.training.inputs import Input
from frcnn_cli.training.loss import multi_task_loss
from frcnn_cli.training.optimisation import make_optimiser
from frcnn_cli.training.roi_targets import TargetStatistics, sample_rois
from frcnn_cli.training.schedule import rate_at
from frcnn_cli.training.target_statistics import target_statistics

PAPER = Recipe.load("paper")


def rng(seed=0):
    return np.random.default_rng(seed)


class TestInput:
    @pytest.mark.parametrize(
        ("size", "scale"),
        [
            ((375, 500), 600 / 375),  # 600 x 800
            ((300, 500), 600 / 300),  # 600 x 1000, just so
            ((299, 500), 1000 / 500),  # 1003 would be too long
            ((1200, 1600), 0.5),
            ((400, 667), 600 / 400),  # round(1000.5) is 1000: half to even
        ],
    )
    def test_short_side_600_long_side_at_most_1000(self, size, scale):
        """scale = 600/short; if round(scale*long) > 1000, scale = 1000/long"""
        transform = ImageTransform(PAPER.images.short_side, PAPER.images.long_side)
        assert transform.scale_for(*size) == pytest.approx(scale)
        assert transform.scale_for(*size[::-1]) == pytest.approx(scale)

    @given(st.integers(20, 90), st.integers(20, 90), st.integers(30, 80))
    def test_resizing_samples_at_the_scale_itself(self, height, width, side):
        """fx = fy = scale, not rounded size / size: pixel i shows the point (i + 0.5) / scale - 0.5"""
        transform = ImageTransform(side, 1000, (0.0,) * 3, (1 / 255,) * 3)
        pixels = rng(height * 91 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
        found, scale = transform(pixels)
        high, wide = round(height * scale), round(width * scale)

        def weights(count, size):
            at = np.clip((np.arange(count) + 0.5) / scale - 0.5, 0, size - 1)
            return np.maximum(1 - np.abs(at[:, None] - np.arange(size)), 0)

        expected = np.einsum("iy,yxc,jx->cij", weights(high, height), pixels.astype(float), weights(wide, width))
        np.testing.assert_allclose(found[:, :high, :wide], expected, atol=0.02)

    def test_caffes_pixels(self):
        """BGR, mean 102.9801, 115.9465, 122.7717 subtracted first, then bilinear resize"""
        import cv2

        pixels = rng().integers(0, 256, (300, 450, 3)).astype(np.uint8)
        tensor, scale = ImageTransform.as_trained("caffe")(pixels)
        expected = pixels[:, :, ::-1].astype(np.float32) - np.array([102.9801, 115.9465, 122.7717], np.float32)
        expected = cv2.resize(expected, None, None, scale, scale, cv2.INTER_LINEAR)
        np.testing.assert_allclose(tensor.permute(1, 2, 0), expected, atol=2e-3)

    def test_every_image_twice_and_padding_is_zero_below_and_right(self):
        """Every image twice, as it is and mirrored (not p = 0.5); batch padded bottom and right with zeros"""
        nothing = GroundTruth(np.zeros((0, 4)), np.zeros(0))
        images = [ProposedSample(i, nothing, np.zeros((0, 4), np.float32)) for i in range(4)]
        seen = []

        def show(ref, look):
            seen.append((ref, look.flip))
            return Input(torch.ones(3, 4 + ref, 9 - ref), 1.0, 9)

        batches = Batches(images, PAPER, TargetStatistics(np.zeros((2, 4)), np.ones((2, 4))), show)
        made = [batches[i] for i in range(4)]
        assert sorted(seen) == [(i, flip) for i in range(4) for flip in (False, True)]
        for batch, pair in zip(made, (seen[i : i + 2] for i in range(0, 8, 2)), strict=True):
            for pixels, (ref, _) in zip(batch.images, pair, strict=True):
                assert (pixels[:, : 4 + ref, : 9 - ref] == 1).all()
                assert pixels.sum() == 3 * (4 + ref) * (9 - ref)

    def test_mirrored_boxes(self):
        """x1' = W - x2, in continuous coordinates"""
        assert flip_horizontally(np.array([[10.0, 1, 30, 5]]), 100).tolist() == [[70, 1, 90, 5]]


class TestNetwork:
    @pytest.mark.parametrize(("name", "grid"), [("vgg16", 7), ("vgg_cnn_m_1024", 6), ("caffenet", 6), ("alexnet", 6)])
    def test_grid_and_scale(self, name, grid):
        """7x7 for VGG16, 6x6 for AlexNet/CaffeNet (S) and VGG_CNN_M_1024 (M); scale 1/16; no last max pool"""
        with torch.device("meta"):
            made = BACKBONES[name].build(Weights(name, "none"))
        assert (made.grid, made.stride) == ((grid, grid), 16)
        assert not isinstance(made.conv[-1], nn.MaxPool2d)
        assert PAPER.network.pooling == "max"

    def test_pooling_by_the_published_rule(self):
        """corners times scale, rounded half away from zero, end inclusive, size at least 1; bin (i) covers floor(i*h/H)
        to ceil((i+1)*h/H), shifted and clipped to the map; an empty bin gives 0"""

        def away(value):
            return math.copysign(math.floor(abs(value) + 0.5), value)

        features = torch.rand(1, 2, 9, 11) - 2
        for box in ([0, 0, 63, 63], [8, 24, 40, 40], [24.0, 8, 24, 8], [-40, -40, -20, -20], [100, 90, 400, 300]):
            rois = torch.tensor([[0, *box]], dtype=torch.float32)
            found = roi_max_pool(features, rois, 3, 1 / 16)[0]
            x1, y1, x2, y2 = (int(away(v / 16)) for v in box)
            w, h = max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)
            for i in range(3):
                for j in range(3):
                    rows = range(max(y1 + i * h // 3, 0), min(y1 + math.ceil((i + 1) * h / 3), 9))
                    columns = range(max(x1 + j * w // 3, 0), min(x1 + math.ceil((j + 1) * w / 3), 11))
                    cells = [features[0, :, y, x] for y in rows for x in columns]
                    expected = torch.stack(cells).max(0).values if cells else torch.zeros(2)
                    assert torch.equal(found[:, i, j], expected), (box, i, j)

    @given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 1000))
    def test_a_roi_smaller_than_the_output(self, height, width, seed):
        """With a RoI smaller than the output, this equals repeating every cell H times and max pooling back"""
        features = torch.from_numpy(rng(seed).random((1, 3, 7, 7)).astype(np.float32))
        rois = torch.tensor([[0, 0, 0, width - 1, height - 1]], dtype=torch.float32)
        inside = features[0, :, :height, :width]
        repeated = inside.repeat_interleave(7, 1).repeat_interleave(7, 2)
        expected = nn.functional.max_pool2d(repeated, (height, width))
        assert torch.equal(roi_max_pool(features, rois, 7, 1.0)[0], expected)

    def test_outputs(self):
        """K+1 class logits (init N(0, 0.01)), 4(K+1) box deltas (init N(0, 0.001)), biases 0; dropout 0.5"""
        head = FullyConnectedHead((nn.Linear(4, 4096), nn.Linear(4096, 4096)), RoIPooler("max", (1, 1), (16,)), 20)
        assert (head.cls_score.out_features, head.bbox_pred.out_features) == (21, 84)
        assert PAPER.network.dropout == 0.5
        assert head.cls_score.weight.std().item() == pytest.approx(0.01, rel=0.02)
        assert head.bbox_pred.weight.std().item() == pytest.approx(0.001, rel=0.02)
        assert not head.cls_score.bias.any()
        assert not head.bbox_pred.bias.any()

    @pytest.mark.parametrize(
        ("name", "first"), [("vgg16", "conv3_1"), ("caffenet", "conv2"), ("vgg_cnn_m_1024", "conv2")]
    )
    def test_frozen_layers(self, name, first):
        """Frozen: conv1 for S and M, conv1 and conv2 for VGG16"""
        with torch.device("meta"):
            made = BACKBONES[name].build(Weights(name, "none"))
        before = [m for m in made.conv[: made.layers[first]] if isinstance(m, nn.Conv2d)]
        assert [m for m in made.conv[: made.frozen] if isinstance(m, nn.Conv2d)] == before
        assert PAPER.network.train_from == ""

    def test_fine_tuning_from(self):
        """Published for VGG16: from fc6, conv3_1, conv2_1"""
        with torch.device("meta"):
            made = BACKBONES["vgg16"].build(Weights("vgg16", "none"))
        assert [made.frozen_before(name) for name in ("fc6", "conv3_1", "conv2_1")] == [len(made.conv), 10, 5]


class TestMiniBatch:
    truth = GroundTruth(np.array([[0, 0, 100, 100]]), np.array([3]))

    def proposals(self):
        """300 each with IoU 0.05, 0.3 and 0.8."""
        shares = np.repeat([0.05, 0.3, 0.8], 300)
        return np.stack([0 * shares, 0 * shares, 100 * shares, 100 + 0 * shares], 1).astype(np.float32)

    def test_counts(self):
        """2 images, 128 RoIs: 64 an image, of which at most 25% (16) foreground"""
        assert (PAPER.sampling.images, PAPER.sampling.rois) == (2, 128)
        assert PAPER.sampling.rois // PAPER.sampling.images == 64
        sampled = sample_rois(self.proposals(), self.truth, 64, PAPER.sampling, rng())
        assert ((sampled.labels == 4).sum(), (sampled.labels == 0).sum()) == (16, 48)

    def test_ranges(self):
        """Foreground: IoU >= 0.5. Background: IoU in [0.1, 0.5)"""
        for share, foreground, background in ((0.5, 2, 0), (0.49, 1, 1), (0.1, 1, 1), (0.09, 1, 0)):
            box = np.array([[0, 0, 100 * share, 100]], np.float32)
            labels = sample_rois(box, self.truth, 64, PAPER.sampling, rng()).labels
            assert ((labels > 0).sum(), (labels == 0).sum()) == (foreground, background), share

    def test_too_few_are_not_filled_up_and_none_comes_twice(self):
        """drawn without replacement; fewer candidates: a smaller batch, no refill"""
        few = self.proposals()[[0, 300, 600]] + np.arange(3, dtype=np.float32)[:, None] / 100
        sampled = sample_rois(few, self.truth, 64, PAPER.sampling, rng())
        assert len(sampled.boxes) == len(np.unique(sampled.boxes, axis=0)) == 3

    def test_objects_join_the_pool_difficult_ones_too(self):
        """Ground-truth boxes join the candidate pool. The 2015 code trains on "difficult" objects too"""
        sampled = sample_rois(np.zeros((0, 4), np.float32), self.truth, 64, PAPER.sampling, rng())
        assert sampled.boxes.tolist() == [[0, 0, 100, 100]]
        assert PAPER.sampling.difficult


class TestTargets:
    def test_encoding(self):
        """tx = (gx - px)/pw, ty = (gy - py)/ph, tw = log(gw/pw), th = log(gh/ph)"""
        proposal, truth = np.array([[10.0, 20, 30, 60]]), np.array([[20.0, 10, 60, 30]])
        expected = [(40 - 20) / 20, (20 - 40) / 40, math.log(40 / 20), math.log(20 / 40)]
        np.testing.assert_allclose(encode(proposal, truth)[0], expected, rtol=1e-6)
        np.testing.assert_allclose(decode(proposal, encode(proposal, truth)[:, None])[0, 0], truth[0], rtol=1e-5)

    def test_the_widths_of_2015(self):
        """the 2015 code has no +1 (x2 - x1 of corners that name pixels), its successor has"""
        assert PAPER.targets.less == 0
        assert PAPER.changed({"targets.widths": "2015"}).targets.less == 1
        proposal, truth = np.array([[10.0, 20, 31, 61]]), np.array([[20.0, 10, 61, 31]])
        # Corners that name pixels: the last one is 30, 60 and 60, 30.
        centres = [(10 + 30) / 2, (20 + 60) / 2, (20 + 60) / 2, (10 + 30) / 2]
        expected = [
            (centres[2] - centres[0]) / 20,
            (centres[3] - centres[1]) / 40,
            math.log(40 / 20),
            math.log(20 / 40),
        ]
        found = encode(proposal, truth, less=1)
        np.testing.assert_allclose(found[0], expected, rtol=1e-6)
        np.testing.assert_allclose(decode(proposal, found[:, None], less=1)[0, 0], truth[0], rtol=1e-5)

    def test_widths_of_2015_are_trained_and_detected(self):
        """The same recipe value reaches targets, statistics and decoding; the model has another identity."""
        from tests.detector.test_model import detector

        recipe = PAPER.changed({"targets.widths": "2015"})
        truth = GroundTruth(np.array([[0, 0, 41, 41]]), np.array([0]))
        boxes = np.array([[2, 0, 44, 41], [0, 6, 41, 48]], np.float32)
        statistics = target_statistics([(boxes, truth)], 1, recipe)
        deltas = encode(np.concatenate([boxes, truth.boxes]), np.repeat(truth.boxes, 3, axis=0), less=1)
        assert statistics.mean[1, 3] == pytest.approx(deltas[:, 3].mean(), rel=1e-5)
        batches = Batches([ProposedSample(None, truth, boxes)], recipe, statistics, None)
        labels = np.array([1, 1])
        found = batches.roi_targets.targets(boxes, np.repeat(truth.boxes, 2, axis=0), labels)
        expected = (deltas[:2] - statistics.mean[1]) / statistics.std[1]
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        usual, other = detector(), detector()
        other.config = other.config.with_recipe_values({"targets.widths": "2015"})
        assert usual.model_id != other.model_id
        maps, scale = usual.feature_map(Image.from_array(np.zeros((64, 64, 3), np.uint8)))
        refined = [one.score(maps, boxes, scale, 500, 500).boxes for one in (usual, other)]
        _, deltas = usual(maps.float(), RoIs.of_images([boxes], [scale]), from_maps=True)
        for less, found in enumerate(refined):
            expected = clip(decode(boxes, deltas[:, 1:].detach().numpy(), less), 500, 500)
            np.testing.assert_allclose(found, expected, atol=1e-4)

    def test_normalised_by_class_and_folded_into_the_layer(self):
        """zero mean, unit (population) variance per class and coordinate over all foreground RoIs, ground truth and
        flips included; variance 0 is guarded; mean and variance are folded into the layer's weights"""
        truth = GroundTruth(np.array([[0, 0, 40, 40], [60, 60, 100, 100]]), np.array([0, 1]))
        boxes = np.array([[2, 0, 42, 40], [0, 6, 40, 46]], np.float32)  # of the first object alone
        found = target_statistics([(boxes, truth)], 2, PAPER)
        deltas = []
        for width, sign in ((100, False), (100, True)):
            pool = np.concatenate([boxes, truth.boxes[:1]])
            target = np.repeat(truth.boxes[:1], 3, axis=0)
            if sign:
                pool, target = flip_horizontally(pool, width), flip_horizontally(target, width)
            deltas.append(encode(pool, target))
        deltas = np.concatenate(deltas)
        np.testing.assert_allclose(found.mean[1], deltas.mean(0), atol=1e-7)
        varying = deltas.std(0) > 1e-3
        np.testing.assert_allclose(found.std[1][varying], deltas.std(0)[varying], rtol=1e-5)
        assert (found.std[1][~varying] == 1).all()
        assert (found.std[2] == 1).all()
        head = FullyConnectedHead((nn.Linear(4, 8), nn.Linear(8, 8)), RoIPooler("max", (1, 1), (16,)), 2)
        x = torch.rand(5, 8)
        plain = head.bbox_pred(x).unflatten(1, (3, 4)) * torch.from_numpy(found.std) + torch.from_numpy(found.mean)
        head.fold_normalisation(*map(torch.from_numpy, found))
        torch.testing.assert_close(head.bbox_pred(x).unflatten(1, (3, 4)), plain)

    def test_loss_on_fixed_inputs(self):
        """L = Lcls + 1 * [u >= 1] * Lloc; softmax cross entropy; smooth L1 (beta 1) summed over the 4 coordinates of
        the true class; both divided by the number of all sampled RoIs"""
        logits = torch.tensor([[1.0, 2.0, 3.0], [0.5, 0.0, -0.5], [0.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
        labels = torch.tensor([2, 1, 0, 0])
        deltas = torch.zeros(4, 3, 4)
        deltas[0, 2] = torch.tensor([0.5, -0.5, 2.0, 0.0])
        deltas[1, 1] = torch.tensor([1.0, -3.0, 0.1, 0.2])
        deltas[2:] = 7
        cross = [-math.log(math.exp(a) / sum(map(math.exp, row))) for row, a in (((1, 2, 3), 3), ((0.5, 0, -0.5), 0))]
        cross += [math.log(3), -math.log(math.exp(2) / (math.exp(2) + 2))]
        smooth = [0.125 + 0.125 + 1.5 + 0, 0.5 + 2.5 + 0.005 + 0.02]
        losses = multi_task_loss(logits, deltas, labels, torch.zeros(4, 4), PAPER.loss)
        assert losses.classification.item() == pytest.approx(sum(cross) / 4, rel=1e-6)
        assert losses.boxes.item() == pytest.approx(sum(smooth) / 4, rel=1e-6)
        assert PAPER.loss.box_weight == 1


class TestSolver:
    def test_rates(self):
        """SGD, lr 0.001 for 30k iterations, 0.0001 for 10k"""
        assert PAPER.iterations(5011) == PAPER.iterations(300) == 40_000
        rates = [rate_at(i, 40_000, PAPER.solver) for i in (0, 29_999, 30_000, 39_999)]
        assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])

    def test_epochs_instead_of_iterations(self):
        assert PAPER.changed({"solver.epochs": 16}).iterations(5011) == 40_088
        own = PAPER.changed({"solver.epochs": 4, "solver.iterations": 500})
        assert (own.iterations(100), own.changed({"solver.iterations": 70}).iterations(100)) == (200, 70)
        assert Recipe.load("modern").iterations(100) == 800

    def test_momentum_and_decay(self):
        """momentum 0.9, weight decay 0.0005; biases: lr doubled, no decay"""
        from tests.detector.test_model import detector

        weights, biases = make_optimiser(detector(), PAPER.solver).param_groups
        assert (weights["momentum"], weights["weight_decay"], weights["rate_factor"]) == (0.9, 0.0005, 1.0)
        assert (biases["momentum"], biases["weight_decay"], biases["rate_factor"]) == (0.9, 0.0, 2.0)
        assert {p.ndim for p in biases["params"]} == {1}
        assert 1 not in {p.ndim for p in weights["params"]}

    def test_nothing_that_came_later(self):
        assert (
            PAPER.solver.clip_norm == PAPER.solver.ema_decay == PAPER.solver.warmup == PAPER.images.colour_jitter == 0
        )
        assert PAPER.images.train_short_sides == ()
        assert not PAPER.network.class_agnostic


class TestDetection:
    def test_clipped(self):
        """Clip to the image"""
        assert clip(np.array([[-5.0, 2, 130, 90]], np.float32), 80, 100).tolist() == [[0, 2, 100, 80]]

    def test_suppression_at_equality(self):
        """NMS at IoU 0.3 (suppress at >= 0.3)"""
        assert PAPER.detection.iou == 0.3
        boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 3], [0, 0, 10, 2.9]])  # IoU 0.3 and 0.29 with the first
        assert nms(boxes, np.array([0.9, 0.8, 0.7]), 0.3).tolist() == [0, 2]

    def test_the_best_hundred_of_a_class_go_into_suppression(self):
        """top 100 a class and image before NMS; no cap across classes"""
        rule = Thresholds(
            *(getattr(PAPER.detection, name) for name in ("iou", "min_score", "max_per_image", "per_class"))
        )
        corners = np.arange(150)[:, None] * 20 + np.zeros((150, 2))
        boxes = np.repeat(np.concatenate([corners, corners + 10], 1)[:, None], 3, axis=1).astype(np.float32)
        scores = np.random.default_rng(0).random((150, 4)).astype(np.float32)
        found = detections_from_scores(scores, boxes, rule)
        assert np.bincount(found.labels).tolist() == [100, 100, 100]

    def test_the_threshold_that_rises(self):
        """a class threshold that rises so that at most 40 x images survive over the set"""
        assert PAPER.detection.per_set == 40
        images, rule = 30, Thresholds(per_class=100, min_score=0.0)
        probabilities = [rng(i).random((120, 3)).astype(np.float32) for i in range(images)]
        # The authors' loop: a heap of the best scores of each class, cut back after every image.
        import heapq

        limit, thresholds, heaps = 40 * images, [-np.inf] * 2, [[], []]
        for scores in probabilities:
            for label in range(2):
                mine = scores[:, label + 1]
                mine = np.sort(mine[mine > thresholds[label]])[::-1][:100]
                for value in mine.tolist():
                    heapq.heappush(heaps[label], value)
                while len(heaps[label]) > limit:
                    heapq.heappop(heaps[label])
                    thresholds[label] = heaps[label][0]
        assert min_scores_of_set(probabilities, 2, rule, 40) == pytest.approx(thresholds)
        assert min_scores_of_set(probabilities[:1], 2, rule, 400) == [0.0, 0.0]

    def test_the_successors_rule_for_one_image(self):
        """The successor: score > 0.05, NMS 0.3, then at most 100 an image over all classes"""
        rule = Thresholds.of_one_image(PAPER.detection)
        assert rule == Thresholds(iou=0.3, min_score=0.05, max_per_image=100, per_class=0)
        # In place of what the recipe leaves as it is, and not of what it says itself.
        own = {"detection.min_score": 0.2, "detection.max_per_image": 3, "detection.per_class": 7, "detection.iou": 0.4}
        assert Thresholds.of_one_image(PAPER.changed(own).detection) == Thresholds(0.4, 0.2, 3, 7)

    def test_equal_rois_once(self):
        """RoIs that are equal after rounding to the 1/16 grid go through the head once"""
        boxes = np.array([[0, 0, 65, 65], [1, 1, 66, 66], [0, 0, 97, 65]], np.float32)
        pooler = RoIPooler("max", (7, 7), (16,))
        first, group = pooler.unique(pooler.windows(RoIs.of_images([boxes], [1.0])))
        assert len(first) == 2
        assert group[0] == group[1] != group[2]

    def test_truncated_svd(self):
        """W = U (S V'), first layer S V' without bias, second U with the old bias; fc6 rank 1024, fc7 rank 256"""
        layer = nn.Linear(40, 30)
        made = truncated(layer, 8)
        u, s, vt = torch.linalg.svd(layer.weight.detach().double())
        best = (u[:, :8] * s[:8]) @ vt[:8]
        first, second = made
        assert first.bias is None
        assert (first.out_features, second.in_features) == (8, 8)
        torch.testing.assert_close(second.weight.double() @ first.weight.double(), best, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(first.weight @ first.weight.T, torch.diag(s[:8].float() ** 2), atol=1e-4, rtol=1e-4)
        assert torch.equal(second.bias, layer.bias)


def test_every_backbone_of_the_paper_can_be_built():
    assert {"caffenet", "vgg_cnn_m_1024", "vgg16"} <= set(BACKBONES)
    assert BACKBONES["caffenet"].normalisation == "caffe"
