"""Damage to a model that neither safetensors nor the shapes of its tensors show."""

import json
import random
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from frcnn_cli.core.errors import FileFormatError, FrcnnError
from frcnn_cli.detector.detector import Detector
from frcnn_cli.detector.header import MODEL_KEY, read_description
from tests.detector.test_model import detector


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    detector().save(path)
    return path


def header_of(content):
    return 8 + struct.unpack("<Q", content[:8])[0]


def content(path):
    """What a reader gets: the configuration and the weights, or the error."""
    try:
        model = Detector.load(path, "cpu")
    except FrcnnError as error:
        return error
    return model.config, {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


def test_a_changed_weight_is_named(saved, tmp_path):
    raw = bytearray(saved.read_bytes())
    raw[-1] ^= 1
    path = tmp_path / "model.safetensors"
    path.write_bytes(raw)
    with pytest.raises(FileFormatError, match=r"model\.safetensors is damaged \(\S+ does not match its checksum\)"):
        Detector.load(path)


def test_a_changed_description_is_refused(saved, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(saved.read_bytes().replace(b"short_side", b"short_sidf"))
    with pytest.raises(FileFormatError, match="description does not match its checksum"):
        Detector.load(path)


def test_a_changed_bit_is_noticed_or_changes_nothing(saved, tmp_path):
    raw, expected, path = saved.read_bytes(), content(saved), tmp_path / "model.safetensors"
    generator = random.Random(0)
    for number in range(200):
        damaged = bytearray(raw)
        # Half of the bits are of the header, which is a small part of the file.
        damaged[generator.randrange(header_of(raw) if number % 2 else len(raw))] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        found = content(path)
        assert found == expected or (isinstance(found, FileFormatError) and str(path) in str(found))


def test_models_without_checksums_are_read_if_they_are_of_an_earlier_version(saved, tmp_path):
    path = tmp_path / "model.safetensors"
    described = read_description(saved, MODEL_KEY)
    del described["checksums"]
    save_file(load_file(saved), path, {MODEL_KEY: json.dumps(described | {"version": 3})})
    np.testing.assert_equal(content(path)[1], content(saved)[1])
    save_file(load_file(saved), path, {MODEL_KEY: json.dumps(described)})
    with pytest.raises(FileFormatError, match="checksum"):
        Detector.load(path)


def test_a_header_of_many_tensors_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({str(i): torch.zeros(0) for i in range(10_001)}, path, {MODEL_KEY: "{}"})
    with pytest.raises(FileFormatError, match="10,001 tensors"):
        Detector.load(path)


def test_a_model_that_was_rounded_is_not_saved(tmp_path):
    model = detector()
    before = model.model_id
    assert model.to_precision("bfloat16").model_id == before
    assert model.to_precision("float32").model_id != before  # its weights differ now
    with pytest.raises(FrcnnError, match="rounded"):
        model.save(tmp_path / "model.safetensors")
