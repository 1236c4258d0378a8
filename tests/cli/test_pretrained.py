"""frcnn models, and what other commands do with a pretrained detector, downloaded from a local server."""

import hashlib
import io
import socket
import struct
import threading
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from safetensors.torch import load_file
from torchvision.models import detection

from frcnn_cli.detector.detector import Detector
from frcnn_cli.store.reader import StageFile
from tests.conftest import assert_one_line_error, run_frcnn
from tests.detector.seeded import picture, published, seeded_state

NAME = "fasterrcnn_mobilenet_v3_large_320_fpn"


@cache
def weights_file():
    """A file of weights as torchvision publishes them, and the beginning of its checksum."""
    buffer = io.BytesIO()
    torch.save(published(seeded_state(NAME), NAME), buffer)
    content = buffer.getvalue()
    return content, hashlib.sha256(content).hexdigest()[:8]


class Server:
    """Answers every request with `content`, and counts the requests."""

    def __init__(self):
        self.content, self.length, self.status, self.requests = weights_file()[0], None, 200, 0
        self.reset = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests += 1
                self.send_response(outer.status)
                self.send_header("Content-Length", str(outer.length or len(outer.content)))
                self.end_headers()
                if outer.reset:
                    self.wfile.write(outer.content[:1000])
                    self.wfile.flush()
                    linger = struct.pack("ii", 1, 0)  # closing then resets the connection
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    self.connection.close()
                    return
                self.wfile.write(outer.content)

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None  # a client that ends the connection
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def server(monkeypatch, tmp_path):
    """The published weights come from a local server, to an empty folder."""
    made = Server()
    value = detection.FasterRCNN_MobileNet_V3_Large_320_FPN_Weights.COCO_V1.value
    monkeypatch.setattr(value, "url", f"{made.url}/{NAME}-{weights_file()[1]}.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("FRCNN_MODEL", raising=False)
    yield made
    made.stop()


@pytest.fixture
def photo(tmp_path):
    PILImage.fromarray(picture(5)).save(tmp_path / "img.png")
    return tmp_path / "img.png"


def path_of_weights(tmp_path):
    return tmp_path / f"torch/hub/checkpoints/{NAME}-{weights_file()[1]}.pth"


def test_a_photograph_without_a_model(server, photo, tmp_path):
    """It is reported which model is used; the weights are downloaded once."""
    ran = run_frcnn("detect", photo, "-o", "found.png", "--json", cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert f"model: {NAME}, trained on COCO" in ran.err
    assert f"downloading {NAME} (74 MB) to {path_of_weights(tmp_path)}" in ran.err
    assert "licence: BSD-3-Clause" in ran.err
    (image,) = ran.json["images"]
    assert len(image["detections"]) > 3
    assert (tmp_path / "found.png").is_file()
    again = run_frcnn("detect", photo, "--json", cwd=tmp_path)
    assert again.json == ran.json
    assert "downloading" not in again.err
    assert server.requests == 1


def test_a_run_or_a_variable_comes_first(server, photo, tmp_path):
    (tmp_path / "runs/a").mkdir(parents=True)
    (tmp_path / "runs/a/model.safetensors").write_bytes(b"no model")
    assert_one_line_error(run_frcnn("detect", photo, cwd=tmp_path), "runs/a/model.safetensors is not a model file")
    ran = run_frcnn("detect", photo, "--json", cwd=tmp_path, env={"FRCNN_MODEL": "coco"})
    assert ran.code == 0, ran.err
    assert "model: coco ($FRCNN_MODEL)" in ran.err


def test_offline(server, photo, tmp_path):
    """One line: what is needed, and how to get it."""
    server.stop()
    ran = run_frcnn("detect", photo, cwd=tmp_path)
    last = ran.err.strip().splitlines()[-1]
    assert ran.code == 1
    assert "could not be downloaded: no connection" in last
    assert f"download {server.url}/{NAME}" in last
    assert f"put it at {path_of_weights(tmp_path)}" in last
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"content": weights_file()[0][:-1000], "length": len(weights_file()[0])}, "the connection ended after"),
        ({"content": b"\0" * 5000}, "its checksum is wrong"),
        ({"content": b"<!DOCTYPE html><html><body>Please log in</body></html>"}, "the answer is a web page"),
        ({"reset": True}, "the connection was interrupted"),
        ({"status": 404}, "the server answered 404"),
        ({"status": 407}, "the server answered 407"),
    ],
)
def test_downloads_that_fail(server, photo, tmp_path, change, words):
    """Nothing is left under the name of the weights; the next attempt can succeed."""
    before = dict(vars(server))
    vars(server).update(change)
    ran = run_frcnn("models", "get", NAME)
    assert_one_line_error_at_the_end(ran, words)
    assert list((tmp_path / "torch").rglob("*.pth")) == list((tmp_path / "torch").rglob("*.tmp")) == []
    vars(server).update({name: before[name] for name in change})
    assert run_frcnn("models", "get", NAME).code == 0


def assert_one_line_error_at_the_end(ran, words):
    assert ran.code == 1, ran.err
    assert "Traceback" not in ran.err
    last = ran.err.strip().splitlines()[-1]
    assert words in last, ran.err


def test_no_space_for_the_weights(server, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "a file"))
    (tmp_path / "a file").write_text("")
    ran = run_frcnn("models", "get", NAME)
    assert_one_line_error_at_the_end(ran, "Not a directory")


def test_the_list(server, tmp_path):
    listed = run_frcnn("models")
    assert listed.code == 0, listed.err
    for name in (NAME, "fasterrcnn_resnet50_fpn_v2", "maskrcnn_resnet50_fpn"):
        assert f"frcnn models get {name}" in listed.out
    assert "46.7" in listed.out
    assert run_frcnn("models", "get", NAME).out.strip() == str(path_of_weights(tmp_path))
    entries = {entry["name"]: entry for entry in run_frcnn("models", "--json").json}
    assert entries[NAME]["is_here"]
    assert entries[NAME]["default"]
    assert not entries["fasterrcnn_resnet50_fpn"]["is_here"]


def test_weights_from_a_file(server, photo, tmp_path):
    """A model file of ours gives what the name gives."""
    (tmp_path / "mine.pth").write_bytes(weights_file()[0])
    line = ("models", "get", NAME, "--weights", "mine.pth", "-o", "mine.safetensors")
    ran = run_frcnn(*line, cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert server.requests == 0
    found = run_frcnn("detect", photo, "--model", "mine.safetensors", "--json", cwd=tmp_path)
    assert found.code == 0, found.err
    named = run_frcnn("detect", photo, "--model", NAME, "--json", cwd=tmp_path)
    assert found.json["images"] == named.json["images"]
    assert_one_line_error(run_frcnn(*line, cwd=tmp_path), "mine.safetensors exists already")


def test_weights_of_the_users_own(server, tmp_path):
    torch.save(seeded_state(NAME, classes=3), tmp_path / "mine.pth")
    line = ("models", "get", NAME, "--weights", "mine.pth", "-o", "mine.safetensors")
    assert_one_line_error(run_frcnn(*line, cwd=tmp_path), "is for 2 classes", "--classes", code=2)
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    for classes in ("cat,dog", "names.txt"):
        ran = run_frcnn(*line, "--classes", classes, "--force", cwd=tmp_path)
        assert ran.code == 0, ran.err
        assert Detector.load(tmp_path / "mine.safetensors").classes == ("cat", "dog")


def test_weights_of_something_else(server, tmp_path):
    torch.save({"features.0.weight": torch.zeros(3)}, tmp_path / "net.pth")
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "cut.pth").write_bytes(weights_file()[0][:10_000])
    for name, words in (
        ("net", "another network"),
        ("text", "not a file of weights"),
        ("cut", "not a file of weights"),
    ):
        ran = run_frcnn("models", "get", NAME, "--weights", tmp_path / f"{name}.pth", "-o", tmp_path / "m.safetensors")
        assert_one_line_error(ran, words)
    assert not (tmp_path / "m.safetensors").exists()


def test_heads_that_are_not_used_are_reported(tmp_path):
    """A model that also finds masks loses that head."""
    state = {**published(seeded_state("fasterrcnn_resnet50_fpn"), ""), "roi_heads.mask_head.0.0.bias": torch.zeros(1)}
    torch.save(state, tmp_path / "mask.pth")
    line = ("models", "get", "maskrcnn_resnet50_fpn", "--weights", tmp_path / "mask.pth")
    ran = run_frcnn(*line, "-o", tmp_path / "m.safetensors")
    assert ran.code == 0, ran.err
    assert "maskrcnn_resnet50_fpn was also trained to predict masks, which frcnn does not use" in ran.err


def test_wrong_uses(tmp_path):
    assert_one_line_error(run_frcnn("models", "get", "retinanet_resnet50_fpn"), "without pooling RoIs", code=2)
    assert_one_line_error(run_frcnn("models", "get", "fasterrcnn_resnet"), "no pretrained detector", code=2)
    for line in (("list", NAME), ("get",), ("get", NAME, "--classes", "a"), ("get", NAME, "--weights", "x.pth")):
        assert run_frcnn("models", *line).code == 2
    assert_one_line_error(run_frcnn("detect", ".", "--model", "fcos_resnet50_fpn"), "without pooling RoIs", code=2)


def test_the_stages_give_what_detect_gives(server, photo, tmp_path):
    """proposals with the region proposal network, features with several levels, score, nms."""
    assert run_frcnn("models", "get", NAME, cwd=tmp_path).code == 0
    steps = (
        ("proposals", photo, "-o", "props.h5", "--source", "rpn", "--set", f"weights={NAME}", "--min-size", 0),
        ("features", photo, "-o", "feats.h5", "--model", NAME, "--dtype", "float32"),
        ("score", "feats.h5", "--props", "props.h5", "--model", NAME, "-o", "scores.h5"),
        ("nms", "scores.h5", "-o", "stages.h5"),
        ("detect", photo, "--model", NAME, "-o", "dets.h5", "--dtype", "float32"),
    )
    for step in steps:
        ran = run_frcnn(*step, cwd=tmp_path)
        assert ran.code == 0, ran.err
    with StageFile(tmp_path / "stages.h5") as stages, StageFile(tmp_path / "dets.h5") as dets:
        for column in ("boxes", "scores", "labels"):
            np.testing.assert_array_equal(stages[0][column], dets[0][column])
    with StageFile(tmp_path / "feats.h5") as feats:
        assert feats[0]["map_size"].shape == (2, 2)
        assert feats[0]["scale"].shape == (1, 2)


def test_other_boxes_into_its_head(server, photo, tmp_path):
    """Boxes of selective search and of a file, with the same head."""
    ran = run_frcnn("detect", photo, "--source", "sliding-window", "--json", cwd=tmp_path)
    assert ran.code == 0, ran.err
    Path(tmp_path / "boxes.csv").write_text("image,x1,y1,x2,y2\nimg,10,10,200,200\nimg,50,60,310,230\n")
    given = run_frcnn(
        *("detect", photo, "--source", "file", "--set", "path=boxes.csv", "--min-score", 0, "--json"), cwd=tmp_path
    )
    assert given.code == 0, given.err
    assert given.json["images"][0]["detections"]


class TestTraining:
    """Runs that start from another model."""

    @pytest.fixture
    def props(self, voc, tmp_path):
        line = ("proposals", f"voc:{voc}", "-o", tmp_path / "props.h5", "--source", "sliding-window", "--workers", 0)
        assert run_frcnn(*line).code == 0
        return tmp_path / "props.h5"

    def train(self, voc, props, folder, *more):
        return run_frcnn("train", "--data", f"voc:{voc}", "--props", props, "-o", folder, *more)

    def test_from_a_pretrained_detector(self, server, voc, props, tmp_path):
        """What is taken, and what begins from scratch, is reported; frozen layers keep their weights."""
        ran = self.train(voc, props, tmp_path / "run", "--init", "coco", "--epochs", 1, "--lr", "0.001")
        assert ran.code == 0, ran.err
        assert "tensors taken" in ran.err
        assert "from scratch: head.cls_score of " in ran.err
        made, origin = Detector.load(tmp_path / "run"), Detector.load("coco")
        assert made.recipe.network == origin.recipe.network
        assert made.transforms == origin.transforms
        assert made.rpn is None
        new, old = made.state_dict(), origin.state_dict()
        assert torch.equal(new["conv.0.0.weight"], old["conv.0.0.weight"]), "frozen"
        assert not torch.equal(new["head.fc7.weight"], old["head.fc7.weight"])
        assert (new["head.fc7.weight"] - old["head.fc7.weight"]).abs().max() < 0.1

    def test_from_a_run_with_one_class_more(self, voc, props, tmp_path):
        """The outputs of classes of the same name are taken, so that detections begin where they were."""
        small = ("--backbone", "small", "--weights", "none", "--short-side", "0", "--lr", "0.02", "--epochs", 2)
        names = Detector.load(_trained(self, voc, props, tmp_path / "all", *small)).classes
        two = ",".join(names[:2])
        _trained(self, voc, props, tmp_path / "two", *small, "--classes", two)
        more = ("--init", tmp_path / "two", "--epochs", 1, "--lr", "1e-9", "--recipe", "paper")
        ran = self.train(voc, props, tmp_path / "three", *more)
        assert ran.code == 0, ran.err
        assert f"outputs taken for the background and {names[0]}, {names[1]}" in ran.err
        assert f"from scratch: head.cls_score of {names[2]}" in ran.err
        new, old = (load_file(tmp_path / name / "model.safetensors") for name in ("three", "two"))
        for layer, rows in (("cls_score", 3), ("bbox_pred", 12)):
            for part in ("weight", "bias"):
                torch.testing.assert_close(
                    new[f"head.{layer}.{part}"][:rows], old[f"head.{layer}.{part}"][:rows], rtol=1e-4, atol=1e-5
                )

    def test_weights_that_name_a_run_point_to_init(self, voc, props, tmp_path):
        small = ("--backbone", "small", "--weights", "none", "--short-side", "0", "--epochs", 1)
        run = _trained(self, voc, props, tmp_path / "a", *small)
        for weights in (run, run / "model.safetensors"):
            ran = self.train(voc, props, tmp_path / "b", "--backbone", "alexnet", "--weights", weights)
            assert_one_line_error(ran, f"rite --init {weights} (train)", code=2)

    def test_a_finished_run_can_be_trained_longer(self, voc, props, tmp_path):
        small = ("--backbone", "small", "--weights", "none", "--short-side", "0", "--lr", "0.02")
        _trained(self, voc, props, tmp_path / "run", *small, "--epochs", 1)
        ran = run_frcnn("train", "--resume", "-o", tmp_path / "run", "--epochs", 3, "--json")
        assert ran.code == 0, ran.err
        assert ran.json["iterations"] == ran.json["of"] == 15
        shorter = run_frcnn("train", "--resume", "-o", tmp_path / "run", "--epochs", 2)
        assert_one_line_error(shorter, "solver.epochs 2.0 differs from the run's own 3.0", code=2)
        again = run_frcnn("train", "--resume", "-o", tmp_path / "run", "--json")
        assert again.json["of"] == 15

    def test_another_network_does_not_fit(self, voc, props, tmp_path):
        """No layer of the model has the shape of one of the network that was asked for."""
        small = ("--backbone", "small", "--weights", "none", "--short-side", "0", "--epochs", 1)
        run = _trained(self, voc, props, tmp_path / "a", *small)
        ran = self.train(voc, props, tmp_path / "b", "--init", run, "--backbone", "squeezenet1_0")
        assert ran.code == 2, ran.err
        assert "--init names a model with another network: no layer fits" in ran.err
        assert not (tmp_path / "b/model.safetensors").exists()

    def test_a_model_that_there_is_not(self, voc, props, tmp_path):
        ran = self.train(voc, props, tmp_path / "run", "--init", tmp_path / "nothing")
        assert_one_line_error(ran, f"no such file or folder ({tmp_path / 'nothing'})")


def _trained(tests, voc, props, folder, *more):
    ran = tests.train(voc, props, folder, *more)
    assert ran.code == 0, ran.err
    return folder
