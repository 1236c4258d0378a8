"""frcnn embed, frcnn vectors, detect --indices, and classes by vectors."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from frcnn_cli.core.decoding import read_image
from frcnn_cli.core.image import ImageRecord
from frcnn_cli.detections.vectors.box_vectors import BoxVectors
from frcnn_cli.detections.vectors.tsv import write_bottom_up
from frcnn_cli.detector.detector import Detector
from frcnn_cli.inference.vectors import read_h5
from frcnn_cli.recipes.recipe import Recipe
from frcnn_cli.roi.rois import RoIs
from frcnn_cli.store.reader import StageFile
from frcnn_cli.store.schema import VECTORS
from frcnn_cli.store.writer import StageWriter
from tests.conftest import assert_one_line_error, run_frcnn


@pytest.fixture(scope="module")
def work(tmp_path_factory, voc):
    """A trained detector, and proposals of its test images."""
    folder = tmp_path_factory.mktemp("work")
    props = ("proposals", f"voc:{voc}", "-o", folder / "props.h5", "--source", "sliding-window", "--workers", 0)
    assert run_frcnn(*props).code == 0
    small = ("--backbone", "small", "--weights", "none", "--short-side", 0, "--background-iou", 0, 0.5)
    line = ("train", "--data", f"voc:{voc}", "--props", folder / "props.h5", "-o", folder / "run", *small)
    ran = run_frcnn(*line, "--epochs", 12, "--lr", "0.02")
    assert ran.code == 0, ran.err
    ran = run_frcnn(
        "embed", f"voc:{voc}", "--boxes", folder / "props.h5", "--model", folder / "run", "-o", folder / "v.h5"
    )
    assert ran.code == 0, ran.err
    return folder


def test_vectors_are_what_the_outputs_read(work, voc):
    """The class layer on them gives the probabilities of detection; boxes are those of the file, in its order."""
    model = Detector.load(work / "run", "cpu")
    with StageFile(work / "props.h5") as props:
        for image in list(read_h5(work / "v.h5"))[:3]:
            boxes = props[props.index[image.key]]["boxes"]
            np.testing.assert_array_equal(image.boxes, boxes)
            with torch.inference_mode():
                logits = model.head.cls_score(torch.from_numpy(image.vectors)).softmax(1).numpy()
            decoded = read_image(voc / "JPEGImages" / f"{image.key}.jpg")
            maps, scale = model.feature_map(decoded, "float32")
            expected = model.score(maps, boxes, scale, image.height, image.width).probabilities
            np.testing.assert_allclose(logits, expected, atol=1e-5)
            assert image.labels.tolist() == expected[:, 1:].argmax(1).tolist()
            np.testing.assert_allclose(image.scores, expected[:, 1:].max(1), atol=1e-5)


@pytest.mark.parametrize("layer", ["pooled", "mean"])
def test_other_layers(work, voc, tmp_path, layer):
    """The pooled map in the order [C, H, W], or its mean."""
    line = ("embed", f"voc:{voc}", "--boxes", work / "props.h5", "--model", work / "run", "-o", tmp_path / "v.h5")
    ran = run_frcnn(*line, "--layer", layer, "--json")
    assert ran.code == 0, ran.err
    model = Detector.load(work / "run", "cpu")
    image = next(read_h5(tmp_path / "v.h5"))
    maps, scale = model.feature_map(read_image(voc / "JPEGImages" / f"{image.key}.jpg"), "float32")
    with torch.inference_mode():
        windows = model.head.pooler.windows(RoIs.of_images([image.boxes], [scale]))
        pooled = model.head.pooler(maps, windows)
    expected = pooled.flatten(1) if layer == "pooled" else pooled.mean(dim=(2, 3))
    np.testing.assert_allclose(image.vectors, expected.numpy(), atol=1e-5)


def test_options(work, voc, tmp_path):
    line = ("embed", f"voc:{voc}", "--boxes", work / "props.h5", "--model", work / "run", "-o", tmp_path / "v.h5")
    assert run_frcnn(*line, "--dtype", "float16", "--normalise").code == 0
    image, plain = next(read_h5(tmp_path / "v.h5")), next(read_h5(work / "v.h5"))
    assert image.vectors.dtype == np.float16
    lengths = np.linalg.norm(plain.vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(image.vectors, plain.vectors / lengths, atol=1e-3)
    again = run_frcnn(*line, "--dtype", "float16", "--normalise")
    assert_one_line_error(again, "exists already")


def test_the_best_detections(work, voc, tmp_path):
    """Exactly as many as wanted; each is the vector of the proposal that its index names."""
    line = ("embed", f"voc:{voc}", "--model", work / "run", "--source", "sliding-window")
    for wanted, most in (("6", 6), ("2-9", 9)):
        path = tmp_path / f"{wanted}.h5"
        ran = run_frcnn(*line, "--per-image", wanted, "-o", path)
        assert ran.code == 0, ran.err
        model = Detector.load(work / "run", "cpu")
        for image in read_h5(path):
            assert 2 <= len(image) <= most
            assert len(image) == 6 or wanted != "6"
            assert len(set(image.proposals.tolist())) == len(image)
        decoded = read_image(voc / "JPEGImages" / f"{image.key}.jpg")
        maps, scale = model.feature_map(decoded, "float32")
        given = model.propose(decoded, _source(), maps, scale)
        vectors, _ = model.vectors(maps, given[image.proposals], scale)
        np.testing.assert_allclose(image.vectors, vectors, atol=1e-5)


def _source():
    from frcnn_cli.proposals.registry import get_source

    return get_source("sliding-window")


def test_a_box_without_area_is_not_skipped(work, voc, tmp_path):
    """Otherwise the vectors after it would belong to other boxes."""
    image = sorted((voc / "JPEGImages").iterdir())[0]
    (tmp_path / "b.csv").write_text(f"image,x1,y1,x2,y2\n{image.stem},1,1,1,9\n{image.stem},1,1,20,20\n")
    line = ("embed", image, "--boxes", tmp_path / "b.csv", "--model", work / "run", "-o", tmp_path / "v.h5")
    ran = run_frcnn(*line)
    assert ran.code == 1
    assert "1 box(es) without area" in ran.err
    assert not (tmp_path / "v.h5").exists()


def test_a_kill_costs_nothing(work, voc, tmp_path):
    """An unfinished run is continued, and ends in the same file."""
    line = ("embed", f"voc:{voc}", "--boxes", work / "props.h5", "--model", work / "run", "-o", tmp_path / "v.h5")
    from frcnn_cli.inference import embed

    done = []
    whole = embed._embed

    def interrupted(*arguments):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(1)
        return whole(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embed, "_embed", interrupted)
        assert run_frcnn(*line).code == 130
    assert not (tmp_path / "v.h5").exists()
    ran = run_frcnn(*line, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["computed"] < ran.json["images"]
    for one, other in zip(read_h5(tmp_path / "v.h5"), read_h5(work / "v.h5"), strict=True):
        np.testing.assert_array_equal(one.vectors, other.vectors)


@pytest.mark.parametrize("form", ["bottom-up", "lxmert", "npz", "folders"])
def test_formats_there_and_back(work, voc, tmp_path, form):
    out = tmp_path / "out"
    ran = run_frcnn("vectors", work / "v.h5", "--to", form, "-o", out, "--json")
    assert ran.code == 0, ran.err
    assert_one_line_error(run_frcnn("vectors", work / "v.h5", "--to", form, "-o", out), "exists already")
    back = ("vectors", out, "--from", form, "--to", "h5", "--data", f"voc:{voc}", "-o", tmp_path / "back.h5")
    again = run_frcnn(*back, "--json")
    assert again.code == 0, again.err
    assert again.json["boxes"] == ran.json["boxes"] > 0
    for one, other in zip(read_h5(tmp_path / "back.h5"), read_h5(work / "v.h5"), strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.vectors, other.vectors)


def test_images_without_boxes_and_twice(voc, tmp_path):
    """Images without boxes are kept; an image that is named twice is refused, as are vectors of two lengths."""
    keys = sorted(path.stem for path in (voc / "JPEGImages").iterdir())
    boxes = np.array([[1, 2, 3, 4]], np.float32)
    none = BoxVectors(keys[0], 0, 0, boxes[:0], np.zeros((0, 3), np.float32))
    one = BoxVectors(keys[1], 0, 0, boxes, np.ones((1, 3), np.float32))
    other = BoxVectors(keys[2], 0, 0, boxes, np.ones((1, 4), np.float32))
    back = ("vectors", tmp_path / "v.tsv", "--from", "bottom-up", "--to", "h5", "--data", f"voc:{voc}")

    none, one, other = (_with_size(image, voc) for image in (none, one, other))
    write_bottom_up([none, one], tmp_path / "v.tsv")
    ran = run_frcnn(*back, "-o", tmp_path / "v.h5")
    assert ran.code == 0, ran.err
    assert [image.vectors.shape for image in read_h5(tmp_path / "v.h5")] == [(0, 3), (1, 3)]
    for images, message in (((one, one), "twice"), ((one, other), "has vectors of 3 and of 4 numbers")):
        write_bottom_up(images, tmp_path / "v.tsv")
        assert_one_line_error(run_frcnn(*back, "-o", tmp_path / "v2.h5"), message)
        assert not (tmp_path / "v2.h5").exists()


def _with_size(image, voc):
    decoded = read_image(voc / "JPEGImages" / f"{image.key}.jpg")
    return replace(image, height=decoded.height, width=decoded.width)


def test_keys_of_an_untrusted_file_lead_nowhere_else(work, tmp_path):
    """Names of images become names of files."""
    provenance = {"classes": []}
    with StageWriter(tmp_path / "evil.h5", VECTORS, provenance) as out:
        columns = {"boxes": np.zeros((1, 4), np.float32), "vectors": np.zeros((1, 2), np.float32)}
        out.add(ImageRecord("../../escaped", 10, 10, "0"), columns)
        out.finish()
    for form in ("npz", "folders"):
        ran = run_frcnn("vectors", tmp_path / "evil.h5", "--to", form, "-o", tmp_path / "a/b/out")
        assert_one_line_error(ran, "'../../escaped' cannot be the name of a file")
    assert not list(tmp_path.rglob("escaped*"))


def test_vectors_of_other_images(work, photo, tmp_path):
    run_frcnn("vectors", work / "v.h5", "--to", "bottom-up", "-o", tmp_path / "v.tsv")
    line = ("vectors", tmp_path / "v.tsv", "--from", "bottom-up", "--to", "h5", "-o", tmp_path / "v.h5")
    assert_one_line_error(run_frcnn(*line, "--data", photo), "which is not among the images")
    assert not (tmp_path / "v.h5").exists()


def test_boxes_of_other_images(work, photo, tmp_path):
    line = ("embed", photo, "--boxes", work / "props.h5", "--model", work / "run", "-o", tmp_path / "v.h5")
    ran = run_frcnn(*line)
    assert ran.code == 1
    assert "Traceback" not in ran.err
    assert "props.h5" in ran.err


def test_wrong_uses(work, photo, tmp_path):
    out = ("-o", tmp_path / "v.h5")
    for more in ((), ("--boxes", "a.csv", "--per-image", 3), ("--per-image", "x"), ("--per-image", "9-2")):
        assert run_frcnn("embed", photo, "--model", work / "run", *more, *out).code == 2
    line = ("embed", photo, "--boxes", work / "props.h5", "--backbone", "small", "--weights", "none", *out)
    assert_one_line_error(run_frcnn(*line), "start from random weights", "--layer mean", code=2)
    assert run_frcnn("vectors", work / "v.h5", "--to", "h5", *out).code == 2
    assert run_frcnn("vectors", work / "v.h5", "--from", "npz", "--to", "h5", *out).code == 2


def test_indices_of_proposals(work, voc, tmp_path):
    """Each box was refined from the proposal that its index names; the stages store the same indices."""
    image = sorted((voc / "JPEGImages").iterdir())[0]
    line = ("detect", image, "--model", work / "run", "--source", "file", "--set", f"path={work / 'props.h5'}")
    ran = run_frcnn(*line, "--indices", "--json")
    assert ran.code == 0, ran.err
    (found,) = ran.json["images"]
    model = Detector.load(work / "run", "cpu")
    with StageFile(work / "props.h5") as props:
        boxes = props[props.index[image.stem]]["boxes"]
    decoded = read_image(image)
    maps, scale = model.feature_map(decoded)
    scores = model.score(maps, boxes, scale, decoded.height, decoded.width)
    for one in found["detections"]:
        label = model.classes.index(one["class"])
        assert scores.probabilities[one["proposal"], label + 1] == pytest.approx(one["score"], abs=1e-5)
        assert scores.boxes[one["proposal"], label] == pytest.approx(one["box"], abs=1e-2)
    assert "proposal" in run_frcnn(*line, "--indices").out
    assert "proposal" not in json.dumps(run_frcnn(*line, "--json").json)
    assert run_frcnn(*line, "-o", tmp_path / "dets.h5").code == 0
    with StageFile(tmp_path / "dets.h5") as dets:
        assert dets[0]["proposals"].tolist() == [one["proposal"] for one in found["detections"]]


class TestClassVectors:
    def test_those_of_the_class_layer_give_what_the_class_layer_gives(self, work, voc, tmp_path):
        """With its bias and without normalisation exactly; normalised, the best class of nearly every box."""
        model = Detector.load(work / "run", "cpu")
        layer = model.head.cls_score
        names = ["background", *model.classes]
        matrix, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        np.savez(tmp_path / "own.npz", names=names, matrix=matrix, bias=bias)
        np.savez(tmp_path / "normal.npz", names=names, matrix=matrix)
        given = ("--source", "file", "--set", f"path={work / 'props.h5'}")
        line = ("detect", f"voc:{voc}", "--model", work / "run", *given, "--dtype", "float32", "--json")
        expected = run_frcnn(*line, "--no-refine")
        found = run_frcnn(*line, "--class-vectors", tmp_path / "own.npz")
        assert found.code == 0, found.err
        for one, other in zip(found.json["images"], expected.json["images"], strict=True):
            assert [d["class"] for d in one["detections"]] == [d["class"] for d in other["detections"]]
            for a, b in zip(one["detections"], other["detections"], strict=True):
                assert a["score"] == pytest.approx(b["score"], abs=1e-4)
                assert a["box"] == b["box"]
        normal = run_frcnn(*line, "--class-vectors", tmp_path / "normal.npz")
        assert normal.code == 0, normal.err
        assert any(image["detections"] for image in normal.json["images"])

    def test_classes_of_examples(self, work, voc, tmp_path):
        """The objects of five images name all objects, which are given as boxes, without training."""
        from frcnn_cli.data.load import load_dataset

        rows = ["image,x1,y1,x2,y2"]
        for sample in load_dataset(f"voc:{voc}"):
            rows += [f"{sample.ref.key},{','.join(map(str, box))}" for box in sample.truth.boxes.tolist()]
        (tmp_path / "true.csv").write_text("\n".join(rows))
        given = ("--source", "file", "--set", f"path={tmp_path / 'true.csv'}")
        examples = ("--classes-from", f"voc:{voc}", "--examples", 5)
        line = ("detect", f"voc:{voc}", "--model", work / "run", *given, *examples)
        ran = run_frcnn(*line, "-o", tmp_path / "dets.h5")
        assert ran.code == 0, ran.err
        scored = run_frcnn("eval", tmp_path / "dets.h5", "--data", f"voc:{voc}", "--json")
        assert scored.json["map"] > 0.6

    def test_classes_of_crops(self, work, voc, tmp_path):
        from frcnn_cli.data.load import load_dataset

        data = load_dataset(f"voc:{voc}")
        for sample in data:
            pixels = read_image(sample.ref.path).pixels
            for i, (box, label) in enumerate(zip(sample.truth.boxes.astype(int), sample.truth.labels, strict=True)):
                folder = tmp_path / "crops" / data.classes[label]
                folder.mkdir(parents=True, exist_ok=True)
                x1, y1, x2, y2 = box
                cv2.imwrite(str(folder / f"{sample.ref.key}-{i}.png"), pixels[y1:y2, x1:x2, ::-1])
        given = ("--source", "file", "--set", f"path={work / 'props.h5'}")
        line = ("detect", f"voc:{voc}", "--model", work / "run", *given, "--classes-from", tmp_path / "crops", "--json")
        ran = run_frcnn(*line)
        assert ran.code == 0, ran.err
        assert {d["class"] for image in ran.json["images"] for d in image["detections"]} <= set(data.classes)

    def test_a_backbone_without_training(self, voc, work, tmp_path):
        line = ("detect", f"voc:{voc}", "--backbone", "small", "--weights", "none", "--classes-from", f"voc:{voc}")
        ran = run_frcnn(*line, "--source", "sliding-window", "--json")
        assert ran.code == 0, ran.err
        hidden = run_frcnn(*line, "--source", "sliding-window", "--layer", "hidden")
        assert_one_line_error(hidden, "start from random weights", code=2)

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"names": ["a"]}, "has no array 'matrix'"),
            ({"names": ["a"], "matrix": np.zeros((2, 3))}, "1 names and a matrix"),
            ({"names": ["a", "a"], "matrix": np.ones((2, 3))}, "names a class twice"),
            ({"names": ["a"], "matrix": np.full((1, 3), np.nan)}, "holds NaN"),
            ({"names": ["a"], "matrix": np.ones((1, 3)), "bias": np.ones(2)}, "has a bias"),
            ({"names": ["a"], "matrix": np.ones((1, 3)), "bias": ["b"]}, "not numbers with 1 axes"),
            ({"names": ["a"], "matrix": np.ones((1, 3)), "scale": [1, 2]}, "not numbers with 0 axes"),
            ({"names": ["a"], "matrix": np.ones((1, 3)), "scale": np.nan}, "scale holds NaN"),
            ({"names": ["a"], "matrix": np.full((1, 3), 1e300)}, "numbers too large"),
            ({"names": ["a"], "matrix": np.ones((1, 0))}, "1 names and a matrix"),
            ({"names": ["a"], "matrix": np.ones((1, 3))}, "have 256 numbers, those of classes 3"),
            ({"names": ["background"], "matrix": np.ones((1, 256))}, "need at least one class"),
            ({"names": np.array([object()]), "matrix": np.ones((1, 3))}, "holds Python objects"),
        ],
    )
    def test_files_that_are_not_class_vectors(self, work, photo, tmp_path, arrays, message):
        np.savez(tmp_path / "v.npz", **arrays)
        ran = run_frcnn("detect", photo, "--model", work / "run", "--class-vectors", tmp_path / "v.npz")
        assert ran.code in (1, 2)
        assert message in ran.err
        assert "Traceback" not in ran.err

    def test_wrong_uses(self, work, photo, tmp_path):
        run = ("detect", photo, "--model", work / "run")
        (tmp_path / "empty").mkdir()
        assert_one_line_error(run_frcnn(*run, "--classes-from", tmp_path / "empty"), "holds no folders of classes")
        assert_one_line_error(run_frcnn(*run, "--classes-from", tmp_path / "none"), "neither a folder", code=2)
        for more in (
            ("--layer", "mean"),
            ("--examples", 3),
            ("--classes-from", tmp_path, "--class-vectors", "x.npz"),
            ("--classes-from", tmp_path, "--refine"),
        ):
            assert run_frcnn(*run, *more).code == 2
        assert run_frcnn("detect", photo, "--backbone", "small").code == 2


def test_untrained_backbones_know_which_layers_are_random():
    recipe = Recipe().changed({"network.backbone": "squeezenet1_0"})
    assert Detector.untrained(recipe, "none", "cpu").hidden_is_random
