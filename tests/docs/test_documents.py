"""README and docs: every command and every Python block runs, in order, on a small data set.

Training is shortened: the backbone is `small`, without weights to download, for one epoch.
"""

import contextlib
import csv
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from frcnn_cli.data.load import load_dataset
from frcnn_cli.data.synthetic import make_dataset
from frcnn_cli.detector.pretrained.models import PRETRAINED, SMALLEST
from frcnn_cli.detector.pretrained.weights import published_weights
from tests.conftest import ROOT, run_frcnn
from tests.detector.seeded import published, seeded_state
from tests.docs.documents import steps_of, words_of

SHORT = ["--backbone", "small", "--weights", "none", "--epochs", "1", "--short-side", "0", "--rois", "16"]
DOCUMENTS = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]
PREPARED = {  # what a page takes for granted from the pages before it
    "docs/guide/labels.md": ("props-test", "run", "dets"),
    "docs/guide/training.md": ("props-train", "props-val"),
    "docs/guide/detection.md": ("props-test", "run"),
    "docs/guide/pretrained.md": ("props-train", "props-test"),
    "docs/guide/vectors.md": ("props-test", "run"),
    "docs/guide/evaluation.md": ("props-test", "run", "dets"),
    "docs/guide/scaling.md": ("props-train",),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """photographs/, labels.csv, my-data/ (with train, val and test), boxes.csv and img.jpg; the current folder."""
    made = tmp_path / "made"
    make_dataset(made, train=6, test=2, seed=3, size=(110, 90))
    shutil.copytree(made / "JPEGImages", tmp_path / "photographs")
    data = load_dataset(f"voc:{made}", "trainval")
    test = load_dataset(f"voc:{made}", "test")
    splits = {"train": data.samples[:4], "val": data.samples[4:], "test": test.samples}
    with open(tmp_path / "labels.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("image", "class", "xmin", "ymin", "xmax", "ymax", "split"))
        for split, samples in splits.items():
            for sample in samples:
                for box, label in zip(sample.truth.boxes, sample.truth.labels, strict=True):
                    rows.writerow((sample.ref.path.name, data.classes[label], *box.tolist(), split))
    with open(tmp_path / "boxes.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("image", "x1", "y1", "x2", "y2"))
        for sample in test.samples:
            rows.writerows((sample.ref.path.stem, *box.tolist()) for box in sample.truth.boxes)
    Pillow.fromarray(np.zeros((90, 110, 3), np.uint8)).save(tmp_path / "img.jpg")
    shutil.rmtree(made)
    put_weights(tmp_path / "torch")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISPLAY", raising=False)
    ran = run_frcnn("data", "convert", "labels.csv", "--images", "photographs/", "--to", "voc", "-o", "my-data")
    assert ran.code == 0, ran.err
    return tmp_path


def put_weights(home):
    """Seeded weights where those of the smallest pretrained detector would be."""
    weights = published_weights(PRETRAINED[SMALLEST])
    path = home / "hub/checkpoints" / weights.path.name
    path.parent.mkdir(parents=True)
    torch.save(published(seeded_state(SMALLEST), SMALLEST), path)


def prepare(name):
    """Makes a file or run that an earlier page makes."""
    if name.startswith("props-"):
        split = name.removeprefix("props-")
        line = ["proposals", "voc:my-data", "--split", split, "-o", f"{name}.h5", "--workers", "0"]
        assert run_frcnn(*line).code == 0
    elif name == "run":
        prepare("props-train")
        line = ["train", "--data", "voc:my-data", "--props", "props-train.h5", "-o", "runs/my", "--recipe", "modern"]
        assert run_frcnn(*line, *SHORT).code == 0
    else:
        for line in (
            "detect voc:my-data --split test --model runs/my -o dets.h5",
            "features voc:my-data --split test --model runs/my -o feats.h5",
            "score feats.h5 --props props-test.h5 --model runs/my -o scores.h5",
            "nms scores.h5 -o dets-stages.h5",
        ):
            assert run_frcnn(*line.split()).code == 0


def shortened(words):
    """The command for a small data set: an image instead of IMAGE, a short training, proposals without processes, fewer
    components."""
    image = Path("my-data/ImageSets/Main/test.txt").read_text().split()[0]
    words = [word.replace("IMAGE", image) for word in words]
    if words[:2] == ["data", "convert"]:
        shutil.rmtree("my-data")
    if words[0] == "train" and "--resume" not in words and "--show-config" not in words:
        words = [*_without(words, "--backbone"), *SHORT] if "--init" not in words else [*words, "--rois", "16"]
    if words[0] == "features" and "--backbone" in words:
        words = [*_without(words, "--backbone"), "--backbone", "small", "--weights", "none", "--short-side", "0"]
    if words[0] == "features" and "--pca" in words:
        words = [*_without(words, "--pca"), "--pca", "48"]  # of the 64 channels of the small network
    if words[0] == "proposals":
        words += ["--workers", "0"]
    return words


def _without(words, option):
    at = words.index(option)
    return words[:at] + words[at + 2 :]


def run_python(text, folder):
    """Runs a block; training is as short as that of the commands."""
    fast = "{'network.backbone': 'small', 'solver.epochs': 1, 'images.short_side': 0, 'sampling.rois': 16}"
    text = re.sub(r'\{\s*"network.backbone": "squeezenet1_0",?\s*\}', fast, text)
    text = text.replace('recipe="modern"', 'recipe="modern", weights="none"')
    text = text.replace("recipe=recipe)", "recipe=recipe, weights='none')")
    if "def frcnn_proposal_sources" in text:
        (folder / "frcnn_halves.py").write_text(text)
        text = "from frcnn_cli.testing import *\nfrom frcnn_halves import Halves\ncheck_proposal_source(Halves())"
    sys.path.insert(0, str(folder))
    try:
        scope = {"__name__": "document"}
        with contextlib.redirect_stdout(None):
            exec(compile(text, "document", "exec"), scope)
        for name, value in list(scope.items()):
            if name.startswith("test_"):
                value()
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("frcnn_halves", None)


# Commands that need an installed plugin or a file of another tool, or that take minutes.
_ELSEWHERE = ("frcnn demo", "frcnn plugins halves", "--source halves", "boxes.mat")


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if steps_of(ROOT / name)])
def test_commands_and_python_of_a_document_run(name, folder):
    for needed in PREPARED.get(name, ()):
        prepare(needed)
    ran = 0
    for step in steps_of(ROOT / name):
        if step.kind == "python":
            run_python(step.text, folder)
        elif not any(words in step.text for words in _ELSEWHERE):
            words = shortened(words_of(step.text))
            done = run_frcnn(*words)
            assert done.code == 0, f"{step.text}\n{done.err}"
        ran += 1
    assert ran


def test_steps_are_found():
    found = [step.text for step in steps_of(ROOT / "README.md")]
    assert "frcnn data lint voc:my-data" in found
    assert sum(step.kind == "python" for step in steps_of(ROOT / "README.md")) == 2
    assert not any("ablations" in step.text for step in steps_of(ROOT / "docs/recipes.md"))


def test_every_recipe_value_is_documented():
    from frcnn_cli.recipes.recipe import recipe_options

    text = (ROOT / "docs/recipes.md").read_text()
    text = text[text.index("## All values") :]
    for key, opt in recipe_options().items():
        assert f"| `{key}` | {opt.default_text} | {opt.help} |" in text, key


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


def test_fidelity_names_tests_that_exist():
    import re

    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/fidelity.md").read_text()))
    text = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 15
    assert not [name for name in named if f"def {name}(" not in text]
