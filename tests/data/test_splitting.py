"""--val and --test: shares, classes and groups."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from frcnn_cli.core.annotations import GroundTruth
from frcnn_cli.core.errors import DataError
from frcnn_cli.core.image import Image, ImageRef
from frcnn_cli.data.dataset import Dataset, Sample
from frcnn_cli.data.load import load_dataset
from frcnn_cli.data.splitting import group_images, split_dataset, thumbnail
from tests.conftest import assert_one_line_error, run_frcnn
from tests.data.exports import voc_xml, write

SHARES = {"train": 0.7, "val": 0.2, "test": 0.1}


def noise(seed, shape=(48, 64)):
    """A picture that resembles no other."""
    return np.kron(np.random.default_rng(seed).integers(0, 255, (*shape, 3)), np.ones((4, 4, 1))).astype(np.uint8)


def dataset(labels):
    samples = tuple(
        Sample(ImageRef(f"{i:04d}", None), GroundTruth(np.tile([0, 0, 9, 9], (len(of), 1)), np.array(of, int)))
        for i, of in enumerate(labels)
    )
    classes = tuple("abcdef")
    return Dataset("d", "all", classes, samples)


def alone(data):
    """Digests and thumbnails of images that have nothing in common."""
    keys = [sample.ref.key for sample in data.samples]
    return dict(zip(keys, keys, strict=True)), {
        key: np.eye(576, dtype=np.float32)[i % 576] for i, key in enumerate(keys)
    }


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.integers(40, 120))
def test_every_image_once_and_each_class_its_share(seed, count):
    rng = np.random.default_rng(seed)
    data = dataset([rng.choice(3, rng.integers(0, 4), p=[0.6, 0.3, 0.1]).tolist() for _ in range(count)])
    parts = split_dataset(data, SHARES, *alone(data), seed)
    assert [part.split for part in parts] == list(SHARES)
    keys = [sample.ref.key for part in parts for sample in part.samples]
    assert sorted(keys) == [sample.ref.key for sample in data.samples]
    for part, share in zip(parts, SHARES.values(), strict=True):
        assert abs(len(part) - share * count) <= 4
        for label in range(3):
            total, own = (sum(label in s.truth.labels for s in one.samples) for one in (data, part))
            assert abs(own - share * total) <= 2.5, (label, own, share * total)


def test_the_same_seed_gives_the_same_split():
    data = dataset([[0]] * 50)
    first, again, other = (split_dataset(data, SHARES, *alone(data), seed)[1].samples for seed in (3, 3, 4))
    assert first == again
    assert [sample.ref.key for sample in first] != [sample.ref.key for sample in other]


def test_copies_and_frames_stay_together():
    clip = noise(0)
    images = {"clip_1.jpg": clip, "clip_2.jpg": np.roll(clip, 1, 1), "clip_10.jpg": np.roll(clip, 2, 1)}
    images |= {"img_1.jpg": noise(1), "img_2.jpg": noise(2), "x.jpg": noise(3), "y.jpg": noise(3)}
    digests = {key: str(hash(pixels.tobytes())) for key, pixels in images.items()}
    thumbnails = {key: thumbnail(Image.from_array(pixels)) for key, pixels in images.items()}
    groups = group_images(list(images), digests, thumbnails)
    assert groups == [["clip_1.jpg", "clip_2.jpg", "clip_10.jpg"], ["img_1.jpg"], ["img_2.jpg"], ["x.jpg", "y.jpg"]]


def test_too_few_groups():
    data = dataset([[0]] * 5)
    keys = [sample.ref.key for sample in data.samples]
    with pytest.raises(DataError, match="split val would have no image: the 5 images form 1 group"):
        split_dataset(data, SHARES, dict.fromkeys(keys, "same"), alone(data)[1])


def test_from_the_command_line(tmp_path):
    source = tmp_path / "photographs"
    source.mkdir()
    for i in range(20):
        Pillow.fromarray(noise(i)).save(source / f"{i}.png")
        write(source / f"{i}.xml", voc_xml(f"{i}.png", [("cat", 1, 2, 30, 40)], (256, 192)))
    line = ("data", "convert", source, "--to", "voc", "--val", 0.2, "--test", 0.1)
    ran = run_frcnn(*line, "-o", tmp_path / "o")
    assert ran.out.splitlines() == [
        f"{split}: {count} images, {count} objects of 1 classes"
        for split, count in (("train", 14), ("val", 4), ("test", 2))
    ]
    splits = [{s.ref.key for s in load_dataset(f"voc:{tmp_path}/o", split)} for split in ("train", "val", "test")]
    assert len(set.union(*splits)) == 20
    assert run_frcnn(*line, "-o", tmp_path / "o2", "--seed", 0).code == 0
    assert {s.ref.key for s in load_dataset(f"voc:{tmp_path}/o2", "val")} == splits[1]
    ran = run_frcnn("data", "convert", source, "--to", "voc", "--val", 0.6, "--test", 0.5, "-o", tmp_path / "o3")
    assert_one_line_error(ran, "leave nothing to train on", code=2)
