"""An image in several sizes: which RoI goes where, and that nothing else changes."""

import dataclasses

import numpy as np
import pytest
import torch

from frcnn_cli.detector.detector import Detector
from frcnn_cli.features.columns import from_columns, to_columns
from frcnn_cli.inference.pipeline import FailedImage, FeaturePipeline
from frcnn_cli.roi.levels import nearest_level
from frcnn_cli.store.reader import StageFile
from tests.conftest import run_frcnn
from tests.detector.test_model import detector, picture

FIVE = (480, 576, 688, 864, 1200)


def test_the_224_rule():
    """fidelity: {480, 576, 688, 864, 1200}; each RoI goes to the level where its scaled area is nearest 224^2"""
    scales = [side / 480 for side in FIVE]
    for side, level in (
        (224, 0),
        (224 / 1.2, 1),
        (224 * 480 / 688, 2),
        (224 * 480 / 864, 3),
        (90, 4),
        (10, 4),
        (470, 0),
    ):
        box = np.array([[7, 9, 7 + side, 9 + side]], np.float32)
        distances = [abs((side * scale) ** 2 - 224**2) for scale in scales]
        assert nearest_level(box, scales).tolist() == [level]
        assert distances[level] == min(distances)
    assert nearest_level(np.zeros((0, 4), np.float32), scales).tolist() == []
    assert nearest_level(np.array([[0, 0, 9, 9]], np.float32), [1.0, 1.0]).tolist() == [0]


def looking_in(*sides):
    made = detector()
    recipe = made.recipe.changed({"images.test_short_sides": sides})
    transform = dataclasses.replace(made.config.transform, long_side=1000)
    made.config = dataclasses.replace(made.config, recipe=recipe.to_dict(), transform=transform)
    return made


def boxes(count=40):
    corners = np.random.default_rng(0).uniform(0, 60, (count, 2))
    sizes = np.random.default_rng(1).uniform(5, 90, (count, 2))
    return np.concatenate([corners, corners + sizes], axis=1).astype(np.float32)


def test_each_roi_has_the_scores_of_its_own_size():
    image, candidates = picture(), boxes()
    several = looking_in(64, 160, 400)
    maps, scales = several.feature_map(image, "float32")
    assert len(maps) == len(scales) == 3
    found = several.score(maps, candidates, scales, image.height, image.width)
    level = nearest_level(candidates, scales)
    assert len(set(level.tolist())) > 1
    for i in range(3):
        alone = several.score(maps[i], candidates[level == i], scales[i], image.height, image.width)
        np.testing.assert_allclose(found.probabilities[level == i], alone.probabilities, atol=1e-6)
        np.testing.assert_allclose(found.boxes[level == i], alone.boxes, atol=1e-3)


def test_one_size_is_as_without():
    image = picture()
    one, plain = looking_in(64), looking_in()
    ours, theirs = (m.score(*_maps(m, image), image.height, image.width) for m in (one, plain))
    np.testing.assert_array_equal(ours.probabilities, theirs.probabilities)


def _maps(made, image):
    maps, scale = made.feature_map(image)
    return maps, boxes(), scale


def test_no_proposals_and_other_ids():
    made, image = looking_in(64, 100), picture()
    maps, scales = made.feature_map(image)
    assert made.score(maps, np.zeros((0, 4), np.float32), scales, 9, 9).boxes.shape == (0, 2, 4)
    assert made.features_id != detector().features_id


def test_columns_of_several_maps():
    maps = [torch.rand(1, 3, h, w).contiguous(memory_format=torch.channels_last) for h, w in ((2, 3), (4, 5))]
    columns = to_columns(maps, [0.5, 1.5])
    assert columns["maps"].shape == (26, 3)
    again, scales = from_columns(columns)
    assert all(torch.equal(one, two) for one, two in zip(maps, again, strict=True))
    assert scales == [0.5, 1.5]
    with pytest.raises(ValueError, match="26 cells do not make a map of 2 x 3 and 4 x 6"):
        from_columns(columns | {"map_size": np.array([[2, 3], [4, 6]], np.int32)})


def test_the_pipeline_keeps_images_together():
    from frcnn_cli.core.errors import ImageError
    from frcnn_cli.core.image import ImageRef

    made = looking_in(64, 96)
    items = [(ImageRef(str(i), "x"), ImageError("bad") if i == 1 else picture()) for i in range(4)]
    found = list(FeaturePipeline(made, "float32", 2).run(items))
    assert [one.ref.key for one in found] == ["0", "1", "2", "3"]
    assert isinstance(found[1], FailedImage)
    expected, scales = made.feature_map(picture(), "float32")
    for one in (found[0], found[3]):
        assert one.scale == scales
        for have, wanted in zip(one.features, expected, strict=True):
            torch.testing.assert_close(have, wanted)


def test_the_stages_and_detect_agree(tmp_path, voc):
    made = looking_in(64, 100, 150)
    values = {"refine": True, "per_set": 0, "per_class": 0, "min_score": 0.01, "max_per_image": 50}
    made.set_recipe_values(**{f"detection__{name}": value for name, value in values.items()})
    made.save(tmp_path / "m.safetensors")
    assert Detector.load(tmp_path / "m.safetensors").features_id == made.features_id
    props = ("--source", "opencv-selective-search", "--max-boxes", "50", "--min-size", "8", "--workers", 0)
    data = (f"voc:{voc}", "--split", "test")
    model = ("--model", tmp_path / "m.safetensors")
    for line in (
        ("proposals", *data, "-o", tmp_path / "p.h5", *props),
        ("features", *data, *model, "-o", tmp_path / "f.h5"),
        ("score", tmp_path / "f.h5", "--props", tmp_path / "p.h5", *model, "-o", tmp_path / "s.h5"),
        ("nms", tmp_path / "s.h5", "-o", tmp_path / "d.h5"),
        ("detect", *data, *model, "-o", tmp_path / "e.h5"),
    ):
        ran = run_frcnn(*line)
        assert ran.code == 0, ran.err
    with StageFile(tmp_path / "f.h5") as maps:
        assert maps[0]["map_size"].shape == (3, 2)
    with StageFile(tmp_path / "d.h5") as stages, StageFile(tmp_path / "e.h5") as direct:
        assert stages.row_count > 0
        for one, two in zip(stages, direct, strict=True):
            for name in ("boxes", "scores", "labels"):
                np.testing.assert_array_equal(one[1][name], two[1][name])
