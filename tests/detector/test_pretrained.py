"""Torchvision's detectors as Fast R-CNN, against torchvision itself, with seeded weights (see `seeded`)."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models.detection.image_list import ImageList

from frcnn_cli.core.errors import FileFormatError, UsageError
from frcnn_cli.core.image import Image
from frcnn_cli.detections.nms import detections_from_scores
from frcnn_cli.detector.detector import Detector
from frcnn_cli.detector.files import StoredModel
from frcnn_cli.detector.pretrained.convert import converted
from frcnn_cli.detector.pretrained.models import PRETRAINED, is_pretrained, pretrained_model
from frcnn_cli.detector.pretrained.weights import published_weights, read_pretrained, unique_names
from frcnn_cli.detector.rpn.network import anchors_of_level, proposals_of
from frcnn_cli.proposals.propose import propose
from frcnn_cli.roi.levels import mapped
from frcnn_cli.roi.rois import RoIs
from frcnn_cli.roi.score import score_boxes
from tests.detector.seeded import picture, published, seeded_state, theirs

NAMES = list(PRETRAINED)[:4]
SHORT, LONG = 160, 320  # instead of 800 and 1333, so that a test takes a second
CPU = torch.device("cpu")
CLASSES = tuple(f"class {i}" for i in range(1, 91))


@cache
def pair(name):
    """Our detector and torchvision's, with the same weights."""
    state = seeded_state(name)
    spec = replace(PRETRAINED[name], short_side=SHORT, long_side=LONG)
    stored = converted(spec, published(state, name), CLASSES, spec.norm_eps, Path("seeded.pth"))
    return Detector.of_stored(stored, CPU), theirs(name, state, min_size=SHORT, max_size=LONG)


def as_torchvision(pixels):
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def assert_equal_detections(found, expected):
    """Labels equal, scores within 1e-4, boxes within 1e-4 of their coordinates or 1e-3 pixels. Detections whose scores
    differ by rounding only may change places."""
    assert len(found.labels) == len(expected["labels"]) > 3, "seeded weights find something"
    scores, labels, boxes = (expected[name].numpy() for name in ("scores", "labels", "boxes"))
    left = list(range(len(scores)))
    for label, score, box in zip(found.labels + 1, found.scores, found.boxes, strict=True):
        same = [i for i in left if labels[i] == label and abs(scores[i] - score) <= 1e-4]
        same = [i for i in same if np.allclose(box, boxes[i], rtol=1e-4, atol=1e-3)]
        assert same, f"torchvision has no class {label} with score {score} at {box}"
        left.remove(same[0])
    np.testing.assert_allclose(found.scores, scores, atol=1e-4)
    swapped = np.flatnonzero(found.labels + 1 != labels)
    assert len(swapped) <= 0.1 * len(labels)


@torch.inference_mode()
def their_proposals(model, pixels):
    """Torchvision's proposals in pixels of the original image: float32 [N, 4]."""
    images, _ = model.transform([as_torchvision(pixels)])
    boxes = model.rpn(images, model.backbone(images.tensors))[0][0].double()
    (high, wide), (height, width) = images.image_sizes[0], pixels.shape[:2]
    return (boxes * torch.tensor([width / wide, height / high] * 2)).float().numpy()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(240, 320), (173, 131), (90, 200)])
def test_the_same_proposals_give_the_same_detections(name, size):
    """Labels are equal, scores and boxes within 1e-4."""
    ours, model = pair(name)
    pixels = picture(7, *size)
    with torch.inference_mode():
        expected = model([as_torchvision(pixels)])[0]
    found = ours.detect(Image.from_array(pixels, "a"), their_proposals(model, pixels), dtype="float32")
    assert len(expected["labels"]) > 3, "seeded weights find something"
    assert_equal_detections(found, expected)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_images_of_several_sizes(name):
    """Padded like torchvision's batches, with proposals of its region proposal network."""
    ours, model = pair(name)
    pictures = [picture(1, 240, 320), picture(2, 200, 150), picture(3, 120, 240)]
    with torch.inference_mode():
        expected = model([as_torchvision(one) for one in pictures])
        images, _ = model.transform([as_torchvision(one) for one in pictures])
        proposals, _ = model.rpn(images, model.backbone(images.tensors))
        scales = [
            (wide / one.shape[1], high / one.shape[0])
            for (high, wide), one in zip(images.image_sizes, pictures, strict=True)
        ]
        boxes = [
            (each.double() / torch.tensor(scale * 2)).float().numpy()
            for each, scale in zip(proposals, scales, strict=True)
        ]
        maps = ours.features(images.tensors)
        rois = RoIs.of_images(boxes, scales)
        logits, deltas = ours(maps, rois, from_maps=True)
    for i, (one, theirs_) in enumerate(zip(pictures, expected, strict=True)):
        rows = rois.image == i

        def network(_, __, rows=rows):
            return logits[rows], deltas[rows]

        scores = score_boxes(network, mapped(lambda m, i=i: m[i : i + 1], maps), boxes[i], scales[i], *one.shape[:2])
        found = detections_from_scores(*scores, ours.thresholds)
        assert_equal_detections(found, theirs_)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_without_detections(name):
    ours, model = pair(name)
    pixels = np.full((100, 130, 3), 127, np.uint8)
    with torch.inference_mode():
        expected = model([as_torchvision(pixels)])[0]
    found = ours.detect(Image.from_array(pixels, "gray"), their_proposals(model, pixels), dtype="float32")
    assert len(found.labels) == len(expected["labels"])
    nothing = ours.detect(Image.from_array(pixels, "gray"), np.zeros((0, 4), np.float32), dtype="float32")
    assert len(nothing.labels) == 0


@pytest.mark.parametrize("name", NAMES)
def test_the_same_objectness_and_deltas_give_the_same_proposals(name):
    """Bit-identical, and in the same order."""
    ours, model = pair(name)
    size, padded = (157, 201), (160, 224)
    cells = [(40, 56), (20, 28), (10, 14), (5, 7), (3, 4)] if "resnet" in name else [(5, 7), (5, 7), (3, 4)]
    config = ours.config.rpn
    generator = torch.Generator().manual_seed(3)
    logits = [torch.randn(1, config.anchors, *cell, generator=generator) for cell in cells]
    deltas = [torch.randn(1, 4 * config.anchors, *cell, generator=generator) for cell in cells]
    images = ImageList(torch.zeros(1, 3, *padded), [size])
    maps = {str(i): torch.zeros(1, 256, *cell) for i, cell in enumerate(cells)}
    model.rpn.head.forward, before = lambda _: (logits, deltas), model.rpn.head.forward
    with torch.inference_mode():
        expected = model.rpn(images, maps)[0][0]
    model.rpn.head.forward = before
    anchors = [
        anchors_of_level(sizes, config.aspect_ratios, cell, padded)
        for sizes, cell in zip(config.anchor_sizes, cells, strict=True)
    ]
    boxes, scores = proposals_of(
        config,
        [one[0].permute(1, 2, 0).flatten() for one in logits],
        [one[0].permute(1, 2, 0).reshape(-1, 4) for one in deltas],
        anchors,
        size,
    )
    assert len(boxes) > 50
    assert torch.equal(boxes, expected)
    assert (scores[:-1] >= scores[1:]).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(240, 320), (173, 131)])
def test_proposals_from_the_image(name, size):
    """Within 1e-3 pixels; the order is equal, except for boxes whose objectness differs by rounding only."""
    ours, model = pair(name)
    pixels = picture(5, *size)
    expected = their_proposals(model, pixels)
    found = ours.source().propose(Image.from_array(pixels, "a"))
    assert len(found.boxes) == len(expected) > 20
    distance = np.abs(found.boxes[:, None] - expected[None]).max(axis=2)
    nearest = distance.argmin(axis=1)
    assert distance.min(axis=1).max() < 1e-3
    assert distance.min(axis=0).max() < 1e-3
    moved = np.flatnonzero(np.diagonal(distance) >= 1e-3)
    assert len(moved) < 0.2 * len(expected)
    scores = found.scores
    assert np.abs(scores[moved] - scores[nearest[moved]]).max(initial=0) < 1e-5, "only near-ties change their places"


def test_one_conv_pass_for_source_and_head(monkeypatch):
    """The source of the model reads its conv maps; the boxes are those that it proposes on its own."""
    ours, _ = pair(NAMES[0])
    image = Image.from_array(picture(5), "a")
    passes = []
    whole = ours.features
    monkeypatch.setattr(ours, "features", lambda images: passes.append(1) or whole(images))
    found = ours.detect(image, dtype="float32")
    assert len(passes) == 1
    alone = propose(image, ours.source(), ours.limits)
    assert len(passes) == 2
    again = ours.detect(image, alone.boxes, dtype="float32")
    np.testing.assert_array_equal(found.boxes, again.boxes)
    np.testing.assert_array_equal(found.scores, again.scores)


def test_the_source_finds_boxes_in_images_of_every_shape():
    ours, _ = pair(NAMES[0])
    for height, width in ((1, 1), (3, 500), (500, 3), (64, 64)):
        image = Image.from_array(picture(0, height, width), f"{height} x {width}")
        propose(image, ours.source(), ours.limits)


def test_options_of_the_source():
    ours, _ = pair(NAMES[2])
    image = Image.from_array(picture(5), "a")
    few = replace(ours.source(), count=7).in_detector(ours)
    assert len(few.propose(image).boxes) == 7
    strict = replace(ours.source(), min_score=0.999).in_detector(ours)
    assert (strict.propose(image).scores >= 0.999).all()
    loose, usual = replace(ours.source(), iou=0.99, per_level=50).in_detector(ours), ours.source()
    assert len(loose.propose(image).boxes) < len(usual.propose(image).boxes)


def test_saved_and_loaded(tmp_path):
    """A model file holds the region proposal network, and gives the same detections."""
    ours, _ = pair(NAMES[0])
    ours.save(tmp_path / "coco.safetensors")
    again = Detector.load(tmp_path / "coco.safetensors", "cpu")
    assert again.model_id == ours.model_id
    image = Image.from_array(picture(5), "a")
    np.testing.assert_array_equal(again.detect(image).boxes, ours.detect(image).boxes)


def test_detection_folds_batch_normalisation_and_training_does_not():
    """Both compute the same maps; changed weights are noticed."""
    ours, _ = pair(NAMES[0])
    image = ours.transforms[0](picture(5))[0][None]
    with torch.inference_mode():
        folded = ours.features(image)
    plain = ours.features(image)
    for one, other in zip(folded, plain, strict=True):
        torch.testing.assert_close(one, other.detach(), rtol=1e-4, atol=1e-4)
    assert plain[0].requires_grad
    weight = next(ours.conv.parameters())
    before = ours.features_id
    with torch.no_grad():
        weight.mul_(2)
    with torch.inference_mode():
        changed = ours.features(image)
    assert not torch.equal(changed[0], folded[0])
    assert ours.features_id != before
    with torch.no_grad():
        weight.div_(2)
    assert ours.features_id == before


def test_rounded_weights_are_noticed():
    """Also where new weights lie at the address of earlier ones."""
    ours, _ = pair(NAMES[0])
    made = Detector.of_stored(StoredModel(Path("x"), 4, ours.config, dict(ours.state_dict())), CPU)
    image = made.transforms[0](picture(5))[0][None]
    before = made.model_id
    with torch.inference_mode():
        exact = made.features(image)
        made.to_precision("bfloat16")
        assert made.model_id == before, "the identity is that of the exact weights"
        made.to_precision("float32")
        assert not torch.equal(made.features(image)[0], exact[0])
    assert made.model_id != before


def test_older_names_of_tensors():
    """Weights that torchvision published before 0.13."""
    name = NAMES[2]
    state = published(seeded_state(name), name)
    older = {}
    for key, value in state.items():
        for part in ("weight", "bias"):
            key = key.replace(f"rpn.head.conv.0.0.{part}", f"rpn.head.conv.{part}")
        for block in ("inner", "layer"):
            for level in range(4):
                for part in ("weight", "bias"):
                    key = key.replace(f"fpn.{block}_blocks.{level}.0.{part}", f"fpn.{block}_blocks.{level}.{part}")
        older[key] = value
    assert "rpn.head.conv.weight" in older
    assert "backbone.fpn.layer_blocks.3.weight" in older
    spec = PRETRAINED[name]
    one, other = (converted(spec, each, CLASSES, 0.0, Path("x.pth")) for each in (state, older))
    assert one.tensors.keys() == other.tensors.keys()
    assert all(torch.equal(one.tensors[key], other.tensors[key]) for key in one.tensors)


def test_other_classes():
    """A detector that was trained with torchvision for two classes."""
    name = NAMES[0]
    state = seeded_state(name, classes=3)
    stored = converted(PRETRAINED[name], state, ("cat", "dog"), 1e-3, Path("x.pth"))
    assert Detector.of_stored(stored, CPU).classes == ("cat", "dog")
    with pytest.raises(UsageError, match="is for 2 classes, and 90 are named"):
        converted(PRETRAINED[name], state, CLASSES, 1e-3, Path("x.pth"))


def test_weights_of_another_architecture():
    state = published(seeded_state(NAMES[2]), NAMES[2])
    with pytest.raises(FileFormatError, match="has a tensor 'backbone.body.conv1.weight' that fasterrcnn_mobilenet"):
        converted(PRETRAINED[NAMES[0]], state, CLASSES, 1e-5, Path("x.pth"))
    other = published(seeded_state(NAMES[0]), NAMES[0])
    with pytest.raises(FileFormatError, match="that fasterrcnn_resnet50_fpn lacks"):
        converted(PRETRAINED[NAMES[2]], other, CLASSES, 1e-5, Path("x.pth"))
    part = {key: value for key, value in state.items() if "layer3" not in key}
    with pytest.raises(FileFormatError, match="lacks the tensor"):
        Detector.of_stored(converted(PRETRAINED[NAMES[2]], part, CLASSES, 0.0, Path("x.pth")), CPU)
    for wrong in ({"features.0.weight": torch.zeros(1)}, {"head.classification_head.x": torch.zeros(1)}, {}):
        with pytest.raises(FileFormatError, match="another network|a detector without RoIs"):
            converted(PRETRAINED[NAMES[2]], wrong, CLASSES, 0.0, Path("x.pth"))


@pytest.mark.parametrize("name", ["retinanet_resnet50_fpn", "fcos_resnet50_fpn", "ssd300_vgg16"])
def test_detectors_without_rois_are_refused_by_name(name):
    with pytest.raises(UsageError, match=f"{name} finds boxes without pooling RoIs"):
        pretrained_model(name)
    with pytest.raises(UsageError, match="without pooling RoIs"):
        Detector.load(name)


def test_heads_for_masks_and_keypoints_are_dropped():
    name = "maskrcnn_resnet50_fpn"
    state = seeded_state(NAMES[2])
    extra = {"roi_heads.mask_head.0.0.weight": torch.zeros(1), "roi_heads.keypoint_predictor.x": torch.zeros(1)}
    one, other = (converted(PRETRAINED[name], each, CLASSES, 0.0, Path("x.pth")) for each in (state, state | extra))
    assert one.tensors.keys() == other.tensors.keys()


def test_class_names_come_from_the_weights():
    published_ = published_weights(PRETRAINED["fasterrcnn_resnet50_fpn"])
    assert len(published_.classes) == len(set(published_.classes)) == 90
    assert published_.classes[:2] == ("person", "bicycle")
    assert published_.classes[11] == "unused 12"
    assert published_.box_ap == 37.0
    assert published_.checksum == "258fb6c6"
    assert unique_names(["a", "N/A", "b", "N/A"]) == ("a", "unused 2", "b", "unused 4")


def test_an_image_that_is_thinner_than_a_resized_pixel():
    """Torchvision refuses it; here it gives no error, and the other images of a run continue."""
    ours, _ = pair(NAMES[0])
    ours.detect(Image.from_array(np.zeros((2000, 1, 3), np.uint8), "thin"))


def test_a_folder_named_like_a_model(tmp_path, monkeypatch):
    """Data may lie in a folder called coco; a run or a model file of that name wins."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "coco").mkdir()
    assert is_pretrained("coco")
    (tmp_path / "coco/model.safetensors").write_bytes(b"")
    assert not is_pretrained("coco")


def test_batch_normalisation_of_the_users_own_weights(tmp_path):
    """Frozen as torchvision's COCO weights have it, unless it counts batches; or as stated."""
    name = NAMES[2]
    state = seeded_state(name)
    torch.save(published(state, name), tmp_path / "frozen.pth")
    torch.save(state, tmp_path / "plain.pth")
    read = {
        (file, eps): read_pretrained(name, tmp_path / f"{file}.pth", norm_eps=eps).tensors["conv.1.weight"]
        for file in ("frozen", "plain")
        for eps in (None, 0.0, 1e-5)
    }
    for file, eps in (("frozen", 0.0), ("plain", 1e-5)):
        assert torch.equal(read[file, None], read[file, eps])
        assert not torch.equal(read[file, 0.0], read[file, 1e-5])
