"""Descriptions of models and checkpoints in which a value is not what it should be: one clear error, or no harm."""

import copy
import json
import struct

from frcnn_cli.core.errors import FrcnnError
from frcnn_cli.detector.detector import Detector
from frcnn_cli.detector.header import MODEL_KEY, STATE_KEY, checksum_of
from frcnn_cli.training.checkpoint import read_state
from frcnn_cli.training.resume import recorded_run
from tests.conftest import run_frcnn
from tests.detector.test_model import detector

HOSTILE = [
    float("inf"),
    float("nan"),
    None,
    "x",
    [],
    {},
    -1,
    10**9,
    10**400,
    1e300,
    "\ud800",
    "\x1b[31m",
    "\x9b1m",
    True,
]


def with_description(path, key, text, out):
    """A copy of a safetensors file with another description."""
    content = path.read_bytes()
    end = 8 + struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:end])
    header["__metadata__"][key] = text
    packed = json.dumps(header).encode()
    out.write_bytes(struct.pack("<Q", len(packed)) + packed + content[end:])


def description(path, key):
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])
    return json.loads(header["__metadata__"][key])


def variants(whole):
    """Every description that differs in one value, and some that are damaged as a whole."""

    def places(value, path=()):
        if isinstance(value, dict):
            for name, inner in value.items():
                yield from places(inner, (*path, name))
        elif isinstance(value, list) and value:
            yield from places(value[0], (*path, 0))
        yield path

    for number, path in enumerate(place for place in places(whole) if place):
        for value in HOSTILE[number % 3 :: 3]:  # each value comes at a third of the places
            changed = copy.deepcopy(whole)
            inner = changed
            for step in path[:-1]:
                inner = inner[step]
            inner[path[-1]] = value
            if path != ("checksum",):
                changed["checksum"] = checksum_of(changed)
            yield path, json.dumps(changed)
    for value in HOSTILE:
        changed = whole | {"version": value}
        yield "version", json.dumps(changed | {"checksum": checksum_of(changed)})
    text = json.dumps(whole)
    yield "depth", '{"a":' * 50_000 + "1" + "}" * 50_000
    yield "lists", text[:-1] + ',"z":' + "[" * 100_000 + "]" * 100_000 + "}"
    yield "digits", text[:-1] + ',"version": ' + "9" * 5000 + "}"
    yield "infinity", text[:-1] + ',"version": 1e999}'


def only_our_errors(function, *arguments):
    try:
        function(*arguments)
    except FrcnnError as error:
        return str(error)
    return ""


def test_models(tmp_path):
    detector().save(tmp_path / "whole.safetensors")
    changed = tmp_path / "model.safetensors"
    refused = 0
    for _, text in variants(description(tmp_path / "whole.safetensors", MODEL_KEY)):
        with_description(tmp_path / "whole.safetensors", MODEL_KEY, text, changed)
        refused += bool(only_our_errors(Detector.load, changed))
    assert refused > 100


def test_checkpoints(voc, tmp_path):
    from frcnn_cli.data.load import load_dataset
    from frcnn_cli.data.pairing import ProposedSample
    from tests.training.test_training import trainer

    samples = [ProposedSample(s.ref, s.truth, s.truth.boxes) for s in load_dataset(f"voc:{voc}", "trainval").samples]
    run = tmp_path / "run"
    run.mkdir()
    trainer(run, samples).save()
    refused = 0
    for number, (_, text) in enumerate(variants(description(run / "state.safetensors", STATE_KEY))):
        with_description(run / "state.safetensors", STATE_KEY, text, tmp_path / "state.safetensors")
        refused += bool(only_our_errors(read_state, tmp_path))
        only_our_errors(recorded_run, tmp_path)
        if number % 20 == 0:
            ran = run_frcnn("inspect", tmp_path / "state.safetensors")
            assert "internal error" not in ran.err
            assert not {"\x1b", "\x9b"} & set(ran.out + ran.err)
    assert refused > 100
