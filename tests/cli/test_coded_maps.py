"""Coded conv maps through the commands: shards, more images, scores, training, and what is refused."""

import json
import shutil

import numpy as np
import pytest

from frcnn_cli.store.stage import open_stage
from tests.conftest import assert_one_line_error, run_frcnn, same_datasets

BACKBONE = ("--backbone", "squeezenet1_0", "--weights", "none", "--short-side", 96)


def frcnn(*words):
    ran = run_frcnn(*words)
    assert ran.code == 0, ran.err
    return ran


@pytest.fixture(scope="module")
def made(voc, tmp_path_factory):
    """Maps of the data set's images, in 16 components of 4 bits."""
    folder = tmp_path_factory.mktemp("coded")
    images = voc / "JPEGImages"
    frcnn("features", images, *BACKBONE, "-o", folder / "feats.h5", "--pca", 16, "--dtype", "int4")
    return folder


def basis_of(path):
    with open_stage(path) as file:
        return file.provenance["pca"]["basis"]


def test_maps_take_a_few_bytes(made):
    with open_stage(made / "feats.h5") as file:
        assert file.column_shapes["maps"][0] == "int8"
        assert file.column_shapes["maps"][1][1] == 2 + 7  # 2 components of 8 bits, 14 of 4
        assert file.column_shapes["steps"][1][1] == 16


def test_shards_have_the_same_components(made, voc, tmp_path):
    for i in (1, 2):
        line = ("features", voc / "JPEGImages", *BACKBONE, "--pca", 16, "--dtype", "int4", "--shard", f"{i}/2")
        frcnn(*line, "-o", tmp_path / f"{i}.h5")
    frcnn("merge", tmp_path / "?.h5", "-o", tmp_path / "merged.h5")
    assert same_datasets(made / "feats.h5", tmp_path / "merged.h5")


def test_files_of_different_images_need_one_basis(made, voc, tmp_path):
    files = sorted((voc / "JPEGImages").iterdir())
    for name, some in (("a", files[:4]), ("b", files[4:])):
        frcnn("features", *some, *BACKBONE, "--pca", 8, "-o", tmp_path / f"{name}.h5")
    assert_one_line_error(run_frcnn("merge", tmp_path / "?.h5", "-o", tmp_path / "m.h5"), f"--basis {tmp_path}/a.h5")
    frcnn("features", *files[4:], *BACKBONE, "--basis", tmp_path / "a.h5", "-o", tmp_path / "b.h5", "--force")
    frcnn("merge", tmp_path / "?.h5", "-o", tmp_path / "m.h5")


def test_images_that_are_added_are_coded_like_the_others(voc, tmp_path):
    """Also where a sample of all images would give other components."""
    images = tmp_path / "images"
    images.mkdir()
    files = sorted((voc / "JPEGImages").iterdir())
    for file in files[:5]:
        shutil.copy(file, images)
    (images / "bad.jpg").write_bytes(b"nothing")
    line = ("features", images, *BACKBONE, "--pca", 8, "--dtype", "int8", "-o", tmp_path / "f.h5", "--json")
    assert run_frcnn(*line).code == 1
    first = basis_of(tmp_path / "f.h5")
    (images / "bad.jpg").unlink()
    for file in files[5:]:
        shutil.copy(file, images)
    assert frcnn(*line).json["computed"] == len(files) - 5
    assert basis_of(tmp_path / "f.h5") == first
    frcnn(*line, "--force")
    assert basis_of(tmp_path / "f.h5") != first


def test_components_of_another_file(made, voc, tmp_path):
    (one, *_) = sorted((voc / "JPEGImages").iterdir())
    line = ("features", one, *BACKBONE, "-o", tmp_path / "f.h5")
    frcnn(*line, "--basis", made / "feats.h5", "--dtype", "float16")
    assert basis_of(tmp_path / "f.h5") == basis_of(made / "feats.h5")
    frcnn("features", one, *BACKBONE, "-o", tmp_path / "plain.h5")
    for wrong, words in (
        (("--basis", tmp_path / "plain.h5"), "holds no principal components"),
        (("--basis", made / "feats.h5", "--fine"), "was computed with other conv layers"),
        (("--basis", tmp_path / "gone.h5"), "gone.h5"),
    ):
        assert_one_line_error(run_frcnn(*line, "--force", *wrong), words)
    for wrong, words in (
        (("--basis", made / "feats.h5", "--pca", 3), "holds 16 principal components, not 3"),
        (("--pca", 600), "Use at most 512"),
    ):
        assert_one_line_error(run_frcnn(*line, "--force", *wrong), words, code=2)
    assert run_frcnn(*line, "--force", "--dtype", "int4").code == 2
    assert_one_line_error(
        run_frcnn("features", one, *BACKBONE, "-o", made / "feats.h5", "--basis", made / "feats.h5", "--force"),
        "is also an input",
    )


def test_scores_from_coded_maps_are_close(voc, tmp_path):
    from frcnn_cli.detector.detector import Detector
    from frcnn_cli.recipes.recipe import Recipe

    recipe = Recipe().changed({"network.backbone": "squeezenet1_0", "images.short_side": 96})
    Detector.untrained(recipe, "none", "cpu").save(tmp_path / "m.safetensors")
    images, model = voc / "JPEGImages", ("--model", tmp_path / "m.safetensors")
    frcnn("proposals", images, "--source", "sliding-window", "-o", tmp_path / "p.h5", "--workers", 0)
    for name, coding in (
        ("float32", ("--dtype", "float32")), ("pca", ("--pca", 512, "--dtype", "float32")),
        ("int8", ("--dtype", "int8")),
    ):  # fmt: skip
        frcnn("features", images, *model, "-o", tmp_path / f"{name}.h5", *coding)
        frcnn("score", tmp_path / f"{name}.h5", "--props", tmp_path / "p.h5", *model, "-o", tmp_path / f"{name}-s.h5")
    with open_stage(tmp_path / "float32-s.h5") as exact:
        for name, most in (("pca", 1e-3), ("int8", 0.02)):
            with open_stage(tmp_path / f"{name}-s.h5") as coded:
                far = [abs(exact[i]["probabilities"] - coded[i]["probabilities"]).max() for i in range(len(exact))]
                assert 0 < max(far) < most
            assert "basis" not in json.dumps(coded.provenance) or len(json.dumps(coded.provenance)) < 5000


def test_training_from_coded_maps(voc, tmp_path):
    data = (f"voc:{voc}", "--split", "trainval")
    frcnn("proposals", *data, "--source", "sliding-window", "-o", tmp_path / "p.h5", "--workers", 0)
    coding = ("--pca", 32, "--dtype", "int4", "--mirrored")
    frcnn("features", *data, *BACKBONE, *coding, "-o", tmp_path / "f.h5")
    with open_stage(tmp_path / "f.h5") as file:
        assert {"mirrored", "mirrored_steps"} <= set(file.column_shapes)
        assert np.isfinite(file[0]["mirrored_steps"]).all()
    line = ("train", "--data", *data, "--props", tmp_path / "p.h5", "--features", tmp_path / "f.h5", *BACKBONE)
    frcnn(*line, "--rois", 24, "--set", "solver.iterations=3", "-o", tmp_path / "run")


def test_inspect_does_not_print_the_components(made):
    shown = frcnn("inspect", made / "feats.h5", "--verify")
    assert "characters)" in shown.out
    assert max(map(len, shown.out.splitlines())) < 20_000
