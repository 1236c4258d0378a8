"""Sampling, targets, loss, schedule and the loop, each against its line in the paper or a case by hand."""

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from frcnn_cli.core.annotations import GroundTruth
from frcnn_cli.core.boxes import flip_horizontally, iou
from frcnn_cli.core.decoding import read_ref
from frcnn_cli.core.errors import FrcnnError, MismatchError
from frcnn_cli.core.run_files import BEST_FILE, MODEL_FILE
from frcnn_cli.data.load import load_dataset
from frcnn_cli.data.pairing import ProposedSample
from frcnn_cli.detector.detector import Detector
from frcnn_cli.features.transform import ImageTransform
from frcnn_cli.recipes.recipe import Recipe
from frcnn_cli.recipes.sections import Loss, Sampling, Solver
from frcnn_cli.roi.box_coder import encode
from frcnn_cli.training.batches import Batches, trainable
from frcnn_cli.training.inputs import DecodedImages
from frcnn_cli.training.loss import multi_task_loss
from frcnn_cli.training.roi_targets import TargetStatistics, sample_rois
from frcnn_cli.training.run_folder import check_free, only_training_in
from frcnn_cli.training.schedule import rate_at
from frcnn_cli.training.target_statistics import measure, target_statistics
from frcnn_cli.training.trainer import Trainer
from frcnn_cli.training.training_set import TrainingSet, images_digest
from frcnn_cli.training.validation import Validation

RNG = np.random.default_rng


def some_boxes(count, seed=0, size=100):
    corners = RNG(seed).random((count, 4)) * size
    return np.concatenate(
        [np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:]) + 1], 1
    )


TRUTH = GroundTruth(np.array([[0, 0, 50, 50], [50, 50, 100, 100]], np.float32), np.array([2, 0]))


class TestSampling:
    proposals = np.concatenate([some_boxes(400), TRUTH.boxes.repeat(30, 0) + RNG(1).normal(0, 3, (60, 4))]).astype("f4")

    def sample(self, count=64, proposals=None, truth=TRUTH, **config):
        proposals = self.proposals if proposals is None else proposals
        return sample_rois(proposals, truth, count, Sampling(**config), RNG(5))

    def test_a_quarter_is_foreground_with_iou_from_half(self):
        sampled = self.sample()
        overlap = iou(sampled.boxes, TRUTH.boxes).max(axis=1)
        foreground = sampled.labels > 0
        assert (foreground.sum(), len(foreground)) == (16, 64)
        assert (overlap[foreground] >= 0.5).all()
        assert ((overlap[~foreground] >= 0.1) & (overlap[~foreground] < 0.5)).all()

    def test_labels_and_matches_are_of_the_best_object(self):
        sampled = self.sample()
        best = iou(sampled.boxes, TRUTH.boxes).argmax(axis=1)
        foreground = sampled.labels > 0
        np.testing.assert_array_equal(sampled.labels[foreground], TRUTH.labels[best[foreground]] + 1)
        np.testing.assert_array_equal(sampled.matched[foreground], TRUTH.boxes[best[foreground]])

    def test_nothing_is_drawn_twice_and_too_few_are_not_filled_up(self):
        few = np.array([[0, 0, 30, 30], [0, 0, 20, 60], [90, 0, 99, 9]], np.float32)
        sampled = self.sample(proposals=few)
        assert len(np.unique(sampled.boxes, axis=0)) == len(sampled.boxes) == 4  # two objects, two in [0.1, 0.5)

    def test_objects_join_the_candidates(self):
        sampled = self.sample(proposals=np.zeros((0, 4), np.float32))
        np.testing.assert_array_equal(sampled.boxes[np.argsort(sampled.boxes[:, 0])], TRUTH.boxes)

    def test_background_from_zero(self):
        far = np.array([[90, 0, 99, 9]], np.float32)
        assert (self.sample(proposals=far).labels == 0).sum() == 0
        assert (self.sample(proposals=far, background_iou=(0.0, 0.5)).labels == 0).sum() == 1

    def test_an_image_without_objects_or_proposals(self):
        nothing = GroundTruth(np.zeros((0, 4), np.float32), np.zeros(0, int))
        assert len(self.sample(truth=nothing).labels) == 0
        assert (self.sample(truth=nothing, background_iou=(0.0, 0.5)).labels == 0).all()
        assert len(self.sample(truth=nothing, proposals=np.zeros((0, 4), np.float32)).labels) == 0


class TestLoss:
    def test_by_hand(self):
        logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])
        labels = torch.tensor([1, 0])
        deltas = torch.zeros(2, 2, 4)
        deltas[0, 1] = torch.tensor([0.5, -2.0, 0.0, 1.0])
        deltas[1] = 100  # background: its boxes cost nothing
        losses = multi_task_loss(logits, deltas, labels, torch.zeros(2, 4))
        assert losses.classification.item() == pytest.approx((math.log(2) - math.log(0.75)) / 2)
        assert losses.boxes.item() == pytest.approx((0.125 + 1.5 + 0 + 0.5) / 2)
        assert losses.total.item() == pytest.approx(losses.classification.item() + losses.boxes.item())

    @pytest.mark.parametrize(("beta", "weight"), [(1.0, 1.0), (0.5, 2.0), (1.0, 0.0)])
    def test_fixed_inputs_against_the_formulas(self, beta, weight):
        """Section 2.3, one number at a time; the inputs are written here."""
        logits = [[0.2, -1.0, 0.7], [1.5, 0.3, -0.4], [-0.6, 0.1, 2.2], [0.0, 0.0, 0.0]]
        labels = [2, 0, 1, 1]
        deltas = [[[(7 * r + 3 * k + c) % 5 / 2 - 1.0 for c in range(4)] for k in range(3)] for r in range(4)]
        targets = [[0.3, -0.2, 0.9, -1.4], [9, 9, 9, 9], [0.0, 0.25, -0.5, 1.0], [-2.0, 0.1, 0.6, 0.0]]

        def smooth(difference):
            size = abs(difference)
            return 0.5 * size**2 / beta if size < beta else size - 0.5 * beta

        classification = boxes = 0.0
        for r, u in enumerate(labels):
            classification -= math.log(math.exp(logits[r][u]) / sum(map(math.exp, logits[r])))
            if u >= 1:
                boxes += weight * sum(smooth(deltas[r][u][c] - targets[r][c]) for c in range(4))
        given = (torch.tensor(logits), torch.tensor(deltas), torch.tensor(labels), torch.tensor(targets))
        losses = multi_task_loss(*given, Loss(beta=beta, box_weight=weight))
        assert losses.classification.item() == pytest.approx(classification / 4, rel=1e-6)
        assert losses.boxes.item() == pytest.approx(boxes / 4, rel=1e-6)

    def test_only_the_true_class_learns_its_box(self):
        deltas = torch.zeros(1, 3, 4, requires_grad=True)
        multi_task_loss(torch.zeros(1, 3), deltas, torch.tensor([2]), torch.ones(1, 4)).boxes.backward()
        assert deltas.grad[0, :2].abs().sum() == 0
        assert (deltas.grad[0, 2] < 0).all()

    def test_no_foreground_and_no_rois_are_finite(self):
        background = multi_task_loss(
            torch.zeros(3, 2), torch.zeros(3, 2, 4), torch.zeros(3, dtype=int), torch.zeros(3, 4)
        )
        assert background.boxes == 0
        empty = multi_task_loss(torch.zeros(0, 2), torch.zeros(0, 2, 4), torch.zeros(0, dtype=int), torch.zeros(0, 4))
        assert empty.total == 0


class TestNormalisation:
    images = [(some_boxes(200, seed).astype("f4"), TRUTH) for seed in range(4)]

    def reference(self, flip):
        deltas = {label: [] for label in range(4)}
        for proposals, truth in self.images:
            for mirrored in (False, True) if flip else (False,):
                boxes, objects = np.concatenate([proposals, truth.boxes]), truth.boxes
                if mirrored:
                    boxes, objects = (flip_horizontally(b, 100) for b in (boxes, objects))
                overlaps = iou(boxes, objects)
                for i in np.flatnonzero(overlaps.max(axis=1) >= 0.5):
                    best = overlaps[i].argmax()
                    deltas[truth.labels[best] + 1].append(encode(boxes[i : i + 1], objects[best : best + 1])[0])
        return deltas

    @pytest.mark.parametrize("flip", [False, True])
    def test_population_mean_and_spread_of_each_class(self, flip):
        found = measure(self.images, 3, 0.5, flip)
        for label, rows in self.reference(flip).items():
            if rows:
                np.testing.assert_allclose(found.mean[label], np.mean(rows, axis=0), atol=1e-5)
                np.testing.assert_allclose(found.std[label], np.std(rows, axis=0), atol=1e-5)
            else:
                assert found.mean[label].tolist() == [0] * 4
                assert found.std[label].tolist() == [1] * 4

    def test_a_class_with_only_its_own_boxes_has_spread_one(self):
        found = target_statistics([(np.zeros((0, 4), np.float32), TRUTH)], 3, Recipe())
        assert (found.std == 1).all()
        assert (found.mean == 0).all()


def test_the_papers_schedule():
    rates = [rate_at(i, 40_000, Solver()) for i in (0, 29_999, 30_000, 39_999)]
    assert rates == pytest.approx([0.001, 0.001, 0.0001, 0.0001])


def test_cosine_and_warmup():
    config = Solver(schedule="cosine", warmup=9, learning_rate=1.0)
    assert rate_at(0, 1000, config) == pytest.approx(0.1)
    assert rate_at(500, 1000, config) == pytest.approx(0.5)
    assert rate_at(999, 1000, config) < 1e-5


@pytest.fixture(autouse=True)
def one_thread():
    """Small networks are faster so; other tests go on with what they had."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def images(voc):
    data = load_dataset(f"voc:{voc}", "trainval")
    return [
        ProposedSample(
            s.ref, s.truth, np.concatenate([some_boxes(40, i, 80), np.repeat(s.truth.boxes, 3, 0) + 2]).astype("f4")
        )
        for i, s in enumerate(data.samples)
    ]


PROPOSALS = {"source": {"name": "x", "version": "1", "options": {}}, "max_boxes": 9, "min_size": 1.0}
PLAIN = TargetStatistics(np.zeros((5, 4), np.float32), np.ones((5, 4), np.float32))
CLASSES = ("disc", "square", "star", "triangle")


class TestBatches:
    def batches(self, images, **values):
        recipe = Recipe().changed({key.replace("__", "."): value for key, value in values.items()})
        return Batches(images, recipe, PLAIN, DecodedImages(read_ref, ImageTransform(short_side=0)))

    def test_every_image_is_seen_as_it_is_and_mirrored_in_each_pass(self, images):
        batches = self.batches(images)  # two images per mini-batch
        looks = [(planned.ref.key, planned.view.flip) for i in range(len(images)) for planned in batches.plan(i)]
        assert sorted(looks) == sorted((image.ref.key, flip) for image in images for flip in (False, True))

    def test_a_batch_follows_from_its_number_alone(self, images):
        first, again = self.batches(images)[7], self.batches(images)[7]
        for name in ("images", "labels", "targets"):
            assert torch.equal(getattr(first, name), getattr(again, name))
        assert all(map(torch.equal, first.rois, again.rois))
        assert first.rois.boxes.tolist() != self.batches(images, solver__seed=1)[7].rois.boxes.tolist()

    def test_worker_processes_prepare_the_same_batches(self, images):
        batches = self.batches(images)
        for number, batch in zip(range(3, 6), batches.iterate(3, 6, workers=2), strict=True):
            assert torch.equal(batch.images, batches[number].images)
            assert torch.equal(batch.rois.boxes, batches[number].rois.boxes)

    def test_boxes_are_mirrored_with_the_pixels(self, images):
        batches = self.batches(images, sampling__images=1)
        plans = [(batches.plan(iteration)[0], iteration) for iteration in range(2 * len(images))]
        positions = {planned.view.flip: i for planned, i in plans if planned.ref == images[0].ref}
        plain, mirrored = (batches[positions[flip]] for flip in (False, True))
        torch.testing.assert_close(mirrored.images, plain.images.flip(3))
        width = plain.images.shape[3]
        objects = {tuple(box) for box in images[0].truth.boxes.round(2).tolist()}
        flipped = {(width - x2, y1, width - x1, y2) for x1, y1, x2, y2 in objects}
        assert any(tuple(box) in flipped for box in mirrored.rois.boxes.tolist())

    def test_images_of_several_sizes_are_padded_with_zeros(self, images):
        batches = self.batches(images)
        batch = batches[0]
        sizes = [image.pixels.shape[:2] for image in map(read_ref, (image.ref for image in images))]
        assert batch.images.shape[0] == 2
        assert batch.images.shape[2] <= max(h for h, _ in sizes)
        for pixels, look in zip(batch.images, batches.plan(0), strict=True):
            height, width = read_ref(look.ref).pixels.shape[:2]
            assert pixels[:, height:].abs().sum() == pixels[:, :, width:].abs().sum() == 0
            assert pixels[:, :height, :width].abs().sum() > 0
        assert set(batch.rois.image.tolist()) == {0, 1}


SMALL = Recipe().changed(
    {
        "network.backbone": "small",
        "sampling.rois": 32,
        "sampling.background_iou": (0.0, 0.5),
        "solver.epochs": 2.0,
        "solver.learning_rate": 0.01,
    }
)


CPU = torch.device("cpu")


def training_set(samples, inputs=None, digest="id"):
    inputs = inputs or DecodedImages(read_ref, ImageTransform(short_side=0))
    return TrainingSet(samples, CLASSES, PROPOSALS, inputs, digest)


def trainer(folder, images, epochs=2.0, lr=0.01, **values):
    recipe = SMALL.changed({"solver.epochs": epochs, "solver.learning_rate": lr, **values})
    return Trainer.begin(folder, training_set(images), recipe, "none", {}, CPU)


def without_times(lines):
    """The lines of a log without what depends on the speed of the machine."""
    parsed = [json.loads(line) for line in lines]
    return [{name: value for name, value in line.items() if "second" not in name} for line in parsed]


# All that a recipe can add to the paper's training.
EVERYTHING = {
    "network.pooling": "align",
    "network.class_agnostic": True,
    "network.fine": True,
    "images.train_short_sides": (64, 96, 128),
    "images.colour_jitter": 0.4,
    "targets.statistics": "fixed",
    "solver.clip_norm": 1.0,
    "solver.ema_decay": 0.9,
    "solver.warmup": 3,
    "solver.schedule": "cosine",
}


class TestLoop:
    def test_the_loss_falls_and_the_model_is_whole(self, tmp_path, images):
        run = trainer(tmp_path, images, epochs=16)
        losses = [step.loss for step in run.run()]
        assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
        run.save()
        detector = Detector.load(tmp_path)
        image = read_ref(images[0].ref)
        found = detector.detect(image, images[0].proposals)
        assert found.scores.max() <= 1
        lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
        assert [line["iteration"] for line in lines] == list(range(10, 81, 10))
        assert {"loss", "loss_boxes", "foreground", "learning_rate", "images_per_second", "eta_seconds"} <= set(
            lines[0]
        )

    @pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["paper", "everything"])
    def test_stopped_and_resumed_is_the_very_same_run(self, tmp_path, images, values):
        whole = trainer(tmp_path / "whole", images, **values)
        expected = [step.loss for step in whole.run()]
        whole.save()
        parts = trainer(tmp_path / "parts", images, **values)
        found = []
        for step in parts.run():
            found.append(step.loss)
            if step.iteration == 4:
                parts.save()
            if step.iteration == 6:
                break  # as if killed: two iterations were not saved
        again = Trainer.resume(tmp_path / "parts", training_set(images), CPU)
        found[4:] = [step.loss for step in again.run()]
        again.save()
        assert found == expected
        for name in ("model.safetensors", "state.safetensors"):
            assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
        logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("whole", "parts")]
        assert without_times(logs[0]) == without_times(logs[1])
        assert [line["iteration"] for line in without_times(logs[1])] == [10]

    def test_a_run_whose_first_checkpoint_could_not_be_written_is_begun_again(self, tmp_path, images, monkeypatch):
        def full(*_):
            raise FrcnnError("no space left to write", "Free some disk space")

        run = trainer(tmp_path, images)
        next(run.run())
        with monkeypatch.context() as patched:
            patched.setattr("frcnn_cli.training.trainer.save_state", full)
            with pytest.raises(FrcnnError, match="no space left"):
                run.save()
        check_free(tmp_path)
        trainer(tmp_path, images).save()
        with pytest.raises(FrcnnError, match="--resume"):
            check_free(tmp_path)

    def test_a_run_whose_first_model_could_not_be_written_is_resumed(self, tmp_path, images, monkeypatch):
        def full(*_):
            raise FrcnnError("no space left to write", "Free some disk space")

        run = trainer(tmp_path, images)
        next(run.run())
        with monkeypatch.context() as patched:
            patched.setattr(Detector, "save", full)
            with pytest.raises(FrcnnError, match="no space left"):
                run.save()
        again = Trainer.resume(tmp_path, training_set(images), CPU)
        assert again.state.iteration == 1
        again.save()
        assert Detector.load(tmp_path).classes == again.detector.classes

    def test_a_second_training_in_the_folder_is_refused_while_the_first_lives(self, tmp_path):
        code = (
            "import sys; from pathlib import Path; from frcnn_cli.training.run_folder import only_training_in\n"
            "with only_training_in(Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()"
        )
        folder = tmp_path / "runs/a"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen([sys.executable, "-c", code, folder], **pipes) as first:
            assert first.stdout.readline() == b"in\n"
            with pytest.raises(FrcnnError, match="another training run is writing"), only_training_in(folder):
                pass
            first.kill()
        assert (folder / ".lock").exists()
        with only_training_in(folder), pytest.raises(FrcnnError, match="another"), only_training_in(folder):
            pass
        assert list(folder.iterdir()) == []
        with only_training_in(tmp_path / "new"):
            pass
        assert not (tmp_path / "new").exists()

    def test_the_best_model_is_kept_whatever_comes_after(self, tmp_path, images):
        run = trainer(tmp_path, images, epochs=4)
        validation = Validation(images[:3], read_ref)
        found = []
        for step in run.run():
            if step.iteration % 5 == 0:
                found.append(run.validate(validation))
                best = (tmp_path / BEST_FILE).read_bytes()
                if found[-1] == max(found) and found.count(max(found)) == 1:
                    kept = best
        assert best == kept
        assert [round(value, 6) for value in found] == [value for _, value in run.validated()]
        assert Detector.load(tmp_path / BEST_FILE).config == run.detector.config
        # What was validated is what is saved: the very same figure from the file.
        assert validation.mean_ap(Detector.load(tmp_path / BEST_FILE)) == pytest.approx(max(found))

    def test_the_average_is_what_is_saved(self, tmp_path, images):
        run = trainer(tmp_path, images, **{"solver.ema_decay": 0.5})
        weights = []
        for step in run.run():
            weights.append(run.detector.head.fc6.weight.detach().clone())
            if step.iteration == 3:
                break
        expected = (trainer(tmp_path / "first", images)).detector.head.fc6.weight.detach()
        for i, value in enumerate(weights):
            decay = min(0.5, (1 + i) / (10 + i))
            expected = decay * expected + (1 - decay) * value
        torch.testing.assert_close(run.finished().head.fc6.weight, expected)

    def test_one_stage_after_the_other(self, tmp_path, images):
        """All but the box layer by the classification alone, then the box layer alone."""
        run = trainer(tmp_path, images, **{"solver.stages": "sequential"})
        assert run.total == 20
        seen = {}
        for step in run.run():
            if step.iteration in (10, 20):
                seen[step.iteration] = {n: v.detach().clone() for n, v in run.detector.named_parameters()}
            if step.iteration == 5:
                run.save()
        assert {n for n in seen[10] if not torch.equal(seen[10][n], seen[20][n])} == {
            "head.bbox_pred.weight",
            "head.bbox_pred.bias",
        }
        assert rate_at(0, run.stage_length, run.recipe.solver) == 0.01
        again = Trainer.resume(tmp_path, training_set(images), CPU)
        assert again.state.iteration == 5
        for _ in again.run():
            pass
        for name, value in again.detector.named_parameters():
            assert torch.equal(value, seen[20][name])

    def test_classification_alone(self, tmp_path, images):
        run = trainer(tmp_path, images, **{"loss.box_weight": 0.0, "solver.weight_decay": 0.0})
        before = run.detector.head.bbox_pred.weight.detach().clone()
        assert all(step.loss_boxes == 0 for step in run.run())
        assert torch.equal(run.detector.head.bbox_pred.weight, before)

    def test_only_the_best_proposals_are_drawn_from(self, images):
        assert {len(i.proposals) for i in trainable(images, Recipe().changed({"sampling.proposals": 7}))} == {7}

    def test_gradients_are_cut_to_length(self, tmp_path, images):
        long, short = (trainer(tmp_path / str(n), images, **{"solver.clip_norm": n}) for n in (0.0, 0.01))
        for run in (long, short):
            next(run.run())
        lengths = [
            torch.sqrt(sum((p.grad**2).sum() for p in run.detector.parameters() if p.grad is not None)).item()
            for run in (long, short)
        ]
        assert lengths[0] > 0.05
        assert lengths[1] == pytest.approx(0.01, rel=1e-3)

    def test_dead_units_are_noticed(self, tmp_path, images):
        run = trainer(tmp_path, images)
        with torch.no_grad():
            run.detector.head.fc7.weight.zero_()
            run.detector.head.fc7.bias.fill_(-1)
        steps = run.run()
        assert next(steps).collapsed
        assert not next(trainer(tmp_path / "other", images).run()).collapsed

    def test_a_loss_that_is_not_finite_keeps_the_last_checkpoint(self, tmp_path, images):
        run = trainer(tmp_path, images, epochs=40)
        kept = b""
        with pytest.raises(
            FrcnnError, match=r"loss is (nan|inf) at iteration \d+; the checkpoint of iteration 3 is kept"
        ):
            for step in run.run():
                if step.iteration == 3:
                    run.save()
                    kept = (tmp_path / "state.safetensors").read_bytes()
                    with torch.no_grad():
                        run.detector.head.fc6.weight.fill_(math.nan)
        assert (tmp_path / "state.safetensors").read_bytes() == kept

    def test_weights_that_are_not_finite_are_not_saved(self, tmp_path, images):
        run = trainer(tmp_path, images)
        run.save()
        kept = (tmp_path / "model.safetensors").read_bytes()
        with torch.no_grad():
            run.detector.head.fc7.weight[0, 0] = math.nan
        with pytest.raises(FrcnnError, match="fc7.weight hold NaN"):
            run.save()
        assert (tmp_path / "model.safetensors").read_bytes() == kept

    def test_other_data_are_not_resumed_with(self, tmp_path, images):
        trainer(tmp_path, images).save()
        with pytest.raises(FrcnnError, match="have changed since"):
            Trainer.resume(tmp_path, training_set(images, digest="other"), CPU)
        with pytest.raises(FrcnnError, match="does not exist"):
            Trainer.resume(tmp_path / "none", training_set(images), CPU)

    def test_the_digest_is_of_everything_learnt_from(self, images):
        digests = ["x"] * len(images)
        same = images_digest(images, digests)
        assert images_digest(images, digests) == same
        fewer = [ProposedSample(i.ref, i.truth, i.proposals[:-1]) for i in images]
        assert images_digest(fewer, digests) != same
        assert images_digest(images, ["y", *digests[1:]]) != same

    def test_biases_learn_at_twice_the_rate_and_are_not_decayed(self, tmp_path, images):
        run = trainer(tmp_path, images)
        weights, biases = run.optimiser.param_groups
        assert (weights["rate_factor"], weights["weight_decay"]) == (1.0, 0.0005)
        assert (biases["rate_factor"], biases["weight_decay"]) == (2.0, 0.0)
        assert all(p.ndim == 1 for p in biases["params"])
        assert all(p.ndim > 1 for p in weights["params"])

    def test_difficult_objects_are_learnt_from_only_if_asked(self, images):
        hard = [
            ProposedSample(i.ref, GroundTruth(i.truth.boxes, i.truth.labels, i.truth.labels >= 0), i.proposals)
            for i in images
        ]
        assert sum(len(i.truth) for i in trainable(hard, Recipe())) > 0
        assert sum(len(i.truth) for i in trainable(hard, Recipe().changed({"sampling.difficult": False}))) == 0

    def test_an_old_run_stays_whole_until_the_new_one_writes(self, tmp_path, images):
        first = trainer(tmp_path, images, epochs=4)
        for _ in first.run():
            pass
        first.validate(Validation(images[:3], read_ref))
        first.save()
        old = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        assert set(old) == {MODEL_FILE, "state.safetensors", BEST_FILE, "log.jsonl", "config.json"}
        run = trainer(tmp_path, images, epochs=4, lr=0.02)
        steps = run.run()
        for _ in range(9):
            next(steps)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == old
        # Nor is it what the new one is measured by.
        other = trainer(shutil.copytree(tmp_path, tmp_path.with_name("copy")), images, epochs=4, lr=1e-9)
        other.validate(Validation(images[:3], read_ref))
        assert len(other.validated()) == 1
        assert (other.folder / BEST_FILE).read_bytes() != old[BEST_FILE]
        next(steps)  # the first line of its log
        assert {path.name for path in tmp_path.iterdir()} == {"log.jsonl", "config.json"}
        assert (tmp_path / "config.json").read_bytes() != old["config.json"]
        assert run.validated() == []

    @pytest.mark.parametrize("text", ["{}\n", '{"iteration": "x"}\n', '{"iteration": 1, "loss": [2]}\n', "[1}\n"])
    def test_a_log_that_is_none_is_not_gone_on_with(self, tmp_path, images, text):
        trainer(tmp_path, images).save()
        (tmp_path / "log.jsonl").write_text(text)
        with pytest.raises(FrcnnError, match="is not a log"):
            Trainer.resume(tmp_path, training_set(images), CPU)
        assert (tmp_path / "log.jsonl").read_text() == text

    def test_images_without_objects_or_proposals_train_on(self, tmp_path, images):
        empty = GroundTruth(np.zeros((0, 4), np.float32), np.zeros(0, int))
        bare = [ProposedSample(i.ref, empty, np.zeros((0, 4), np.float32)) for i in images[:2]]
        run = trainer(tmp_path, bare)
        assert all(step.loss == 0 and step.foreground == 0 for step in run.run())
        run.save()


def test_training_from_maps_is_training_with_all_conv_layers_frozen(tmp_path, images, monkeypatch):
    """With maps in float32 both compute the same, but for the order of sums."""
    from frcnn_cli.features import backbones
    from frcnn_cli.features.columns import to_columns
    from frcnn_cli.store.reader import StageFile
    from frcnn_cli.store.schema import FEATURES
    from frcnn_cli.store.writer import StageWriter
    from frcnn_cli.training import trainer as loop
    from frcnn_cli.training.inputs import CachedMaps

    config = SMALL.changed({"sampling.rois": 16, "sampling.images": 1, "images.short_side": 0})

    def frozen(*arguments):
        made = backbones.build_network(*arguments)
        made.frozen = len(made.conv)
        return made

    def train(folder, inputs):
        run = Trainer.begin(folder, training_set(images, inputs), config, "none", {}, CPU)
        losses = [step.loss for step in run.run()]
        run.save()
        return losses, Detector.load(folder)

    extractor = Detector.untrained(config, "none")
    with StageWriter(tmp_path / "f.h5", FEATURES, {"features_id": extractor.features_id, "dtype": "float32"}) as out:
        for image in images:
            decoded = read_ref(image.ref)
            maps, scale = extractor.feature_map(decoded, "float32")
            other, _ = extractor.feature_map(replace(decoded, pixels=decoded.pixels[:, ::-1]), "float32")
            out.add(decoded.record, to_columns(maps, scale) | {"mirrored": to_columns(other, scale)["maps"]})
        out.finish()
    with StageFile(tmp_path / "f.h5", FEATURES) as file:
        inputs = CachedMaps(file, {image.ref.key: file.index[image.ref.key] for image in images})
        cached, from_maps = train(tmp_path / "cached", inputs)
        with pytest.raises(MismatchError, match="begun with"):
            Trainer.resume(tmp_path / "cached", training_set(images), CPU)
        resumed = Trainer.resume(tmp_path / "cached", training_set(images, inputs), CPU)
        assert resumed.state.iteration == resumed.total
    monkeypatch.setattr(loop, "build_network", frozen)
    whole, from_pixels = train(tmp_path / "whole", DecodedImages(read_ref, ImageTransform(short_side=0)))
    np.testing.assert_allclose(cached, whole, rtol=1e-3)
    assert from_maps.features_id == from_pixels.features_id == extractor.features_id
    for name, value in from_maps.head.state_dict().items():
        torch.testing.assert_close(value, from_pixels.head.state_dict()[name], rtol=1e-3, atol=1e-5)
