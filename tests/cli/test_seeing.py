"""frcnn recall and frcnn show: what proposals are worth, as tables and pictures."""

import numpy as np
import pytest
from PIL import Image as Pillow

from frcnn_cli.data.load import load_dataset
from tests.conftest import assert_one_line_error, run_frcnn


@pytest.fixture(scope="module")
def files(tmp_path_factory, voc):
    """Two proposals files of the test split: of our source, and the objects themselves."""
    folder = tmp_path_factory.mktemp("props")
    common = (f"voc:{voc}", "--split", "test")
    ours, objects = folder / "ours.h5", folder / "objects.h5"
    assert run_frcnn("proposals", *common, "-o", ours, "--workers", 0).code == 0
    samples = load_dataset(f"voc:{voc}", "test").samples
    np.savez(folder / "objects.npz", **{sample.ref.key: sample.truth.boxes for sample in samples})
    told = ("--order", "xyxy", "--base", 0, "--end", "beyond", "--absolute")
    ran = run_frcnn("import", folder / "objects.npz", "--data", *common, "-o", objects, *told)
    assert ran.code == 0, ran.err
    return ours, objects


def test_objects_as_proposals_are_worth_exactly_one(files, voc):
    ran = run_frcnn("recall", files[1], "--data", f"voc:{voc}", "--split", "test", "--boxes", "2000", "--json")
    (line,) = ran.json["files"][0]["recall"]
    figures = ("recall_50", "recall_70", "average_recall", "average_best_overlap", "ceiling")
    assert [line[name] for name in figures] == [1] * 5


def test_several_files_side_by_side(files, voc):
    common = ("recall", *files, "--data", f"voc:{voc}", "--split", "test", "--boxes", "10,100")
    ran = run_frcnn(*common, "--by", "class", "--by", "size", "--by", "iou")
    assert ran.code == 0, ran.err
    for words in (
        "2 files on",
        "ours.h5",
        "objects.h5",
        "ceiling",
        "by class, 100 boxes",
        "recall by IoU",
        "0.95",
    ):
        assert words in ran.out
    found = run_frcnn(*common, "--json").json["files"]
    assert [file["props"] for file in found] == list(map(str, files))
    for file in found:
        last = file["recall"][-1]
        assert last["objects"] == sum(line["objects"] for line in file["class"].values())
        assert last["objects"] == sum(line["objects"] for line in file["size"].values())
        assert file["iou"]["0.50"] == last["recall_50"]
        assert np.mean(list(file["iou"].values())) == pytest.approx(last["average_recall"])


def test_one_file_against_another(files):
    ours, objects = files
    (line,) = run_frcnn("recall", objects, "--data", objects, "--boxes", "2000", "--json").json["files"][0]["recall"]
    assert line["average_best_overlap"] == 1
    ran = run_frcnn("recall", objects, "--data", ours)
    assert f"on {ours}, 6 images" in ran.out


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_the_plot(tmp_path, files, voc, ending):
    path = tmp_path / f"recall.{ending}"
    line = ("recall", *files, "--data", f"voc:{voc}", "--split", "test", "--plot", path)
    assert run_frcnn(*line).code == 0
    head = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[ending]
    assert path.read_bytes().startswith(head)
    if ending == "png":
        assert len(np.unique(np.asarray(Pillow.open(path).convert("RGB")).reshape(-1, 3), axis=0)) > 20
    assert_one_line_error(run_frcnn(*line), "exists already")


def test_a_plot_must_be_a_picture(files, voc):
    ran = run_frcnn("recall", files[0], "--data", f"voc:{voc}", "--plot", "recall.txt")
    assert ran.code == 2
    assert ".png or .svg or .pdf" in ran.err
    assert run_frcnn("recall", files[0], files[0], "--data", f"voc:{voc}").code == 2


def test_files_of_any_name_are_plotted(tmp_path, files, voc):
    odd = tmp_path / "_a$_{b$c.h5"
    odd.write_bytes(files[0].read_bytes())
    path = tmp_path / "r.svg"
    assert run_frcnn("recall", odd, "--data", f"voc:{voc}", "--split", "test", "--plot", path).code == 0
    assert path.stat().st_size > 10_000


def test_what_goes_with_a_data_set_alone_is_refused_elsewhere(files, photo):
    assert run_frcnn("recall", files[0], "--data", files[1], "--by", "class").code == 2
    assert run_frcnn("recall", files[0], "--data", files[1], "--split", "test").code == 2
    assert run_frcnn("show", files[0], photo, "--split", "test").code == 2


def test_show_draws_the_best_boxes(tmp_path, files, voc):
    sample = load_dataset(f"voc:{voc}", "test").samples[0]
    out = tmp_path / "few.png"
    ran = run_frcnn("show", files[0], sample.ref.path, "--top", 3, "-o", out)
    assert ran.code == 0, ran.err
    drawn = np.asarray(Pillow.open(out)).astype(int)
    assert drawn.shape == np.asarray(Pillow.open(sample.ref.path)).shape
    assert "3 of " in ran.err
    more = tmp_path / "more.png"
    assert run_frcnn("show", files[0], sample.ref.path, "--top", 30, "-o", more).code == 0
    photo = np.asarray(Pillow.open(sample.ref.path)).astype(int)
    changed = [(np.abs(picture - photo).sum(axis=2) > 0).sum() for picture in (drawn, np.asarray(Pillow.open(more)))]
    assert 0 < changed[0] < changed[1]


def test_show_tells_how_each_object_is_covered(tmp_path, files, voc):
    sample = load_dataset(f"voc:{voc}", "test").samples[0]
    out = tmp_path / "covered.png"
    ran = run_frcnn("show", files[1], sample.ref.path, "--data", f"voc:{voc}", "-o", out)
    count = len(sample.truth)
    assert f"{count} of {count} objects covered (IoU 0.5) by {count} boxes" in ran.out
    assert ran.out.count("1.000") == count
    # Yellow outlines lie under the green ones of equal boxes, so green is what is seen.
    x1, y1, _, y2 = sample.truth.boxes[0].astype(int)
    assert tuple(np.asarray(Pillow.open(out))[(y1 + y2) // 2, x1]) == (70, 200, 90)


def test_show_without_a_display_saves_and_says_where(tmp_path, monkeypatch, files, voc):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    sample = load_dataset(f"voc:{voc}", "test").samples[0]
    ran = run_frcnn("show", files[0], sample.ref.path)
    assert f"{sample.ref.key}-proposals.jpg" in ran.err
    assert (tmp_path / f"{sample.ref.key}-proposals.jpg").is_file()


def test_show_wants_an_image_of_the_file(tmp_path, files, voc, photo):
    assert_one_line_error(run_frcnn("show", files[0], photo, "-o", tmp_path / "a.png"), "has no boxes for")
    sample = load_dataset(f"voc:{voc}", "test").samples[0]
    line = ("show", files[0], sample.ref.path, "--data", f"voc:{voc}", "-o", tmp_path / "a.png")
    assert_one_line_error(run_frcnn(*line, "--split", "trainval"), "does not hold the image")
    assert run_frcnn("show", files[0], photo, "-o", "a.gif").code == 2
