"""frcnn eval, compare and export on the files of a whole chain."""

import csv
import json
import shutil

import numpy as np
import pytest

from frcnn_cli.evaluation.explain import FALSE, MISSED
from frcnn_cli.store.reader import StageFile
from tests.conftest import assert_one_line_error, run_frcnn, with_provenance

TRAINING = [
    "--backbone",
    "small",
    "--weights",
    "none",
    "--short-side",
    "0",
    "--epochs",
    "4",
    "--lr",
    "0.02",
    "--background-iou",
    "0",
    "0.5",
]


@pytest.fixture(scope="module")
def work(tmp_path_factory, voc):
    folder = tmp_path_factory.mktemp("work")
    props = ("proposals", f"voc:{voc}", "-o", folder / "props.h5", "--source", "sliding-window", "--workers", 0)
    train = ("train", "--data", f"voc:{voc}", "--props", folder / "props.h5", "-o", folder / "run")
    for line in (
        props,
        (*train, *TRAINING),
        ("features", f"voc:{voc}", "--model", folder / "run", "-o", folder / "feats.h5"),
        (
            *("score", folder / "feats.h5", "--props", folder / "props.h5", "--model", folder / "run"),
            *("-o", folder / "scores.h5"),
        ),
        ("nms", folder / "scores.h5", "-o", folder / "dets.h5"),
        ("nms", folder / "scores.h5", "-o", folder / "strict.h5", "--min-score", "0.3", "--per-set", "0"),
    ):
        ran = run_frcnn(*line)
        assert ran.code == 0, ran.err
    return folder


@pytest.fixture(scope="module")
def data(voc):
    return ("--data", f"voc:{voc}", "--split", "trainval")


@pytest.mark.parametrize("dets", ["dets.h5", "strict.h5"])
def test_explained(work, data, dets):
    line = ("eval", work / dets, *data, "--explain", "--scores", work / "scores.h5", "--props", work / "props.h5")
    told = run_frcnn(*line, "--json").json
    for name, kinds, total in (
        ("missed", MISSED, lambda c: c["objects"] - round(c["recall"] * c["objects"])),
        ("false", FALSE, lambda c: c["detections"] - round(c["recall"] * c["objects"])),
    ):
        assert tuple(told["explanation"][name]) == kinds
        for label, figures in told["classes"].items():
            assert sum(kind["count"][label] for kind in told["explanation"][name].values()) == total(figures)
    shown = run_frcnn(*line)
    assert "objects missed, by reason" in shown.out
    assert all(f" {kind} " in shown.out for kind in (*MISSED, *FALSE))


def test_options_of_explain(work, data):
    files = ("--scores", work / "scores.h5", "--props", work / "props.h5")
    assert "belong to --explain" in run_frcnn("eval", work / "dets.h5", *data, *files).err
    some = run_frcnn("eval", work / "dets.h5", *data, *files, "--explain", "--classes", "disc")
    assert (some.code, "remove --classes" in some.err) == (2, True)


def test_explained_wants_the_files_that_belong_together(work, data):
    line = ("eval", work / "dets.h5", *data, "--explain")
    assert run_frcnn(*line).code == 2
    other = ("--scores", work / "scores.h5", "--props", work / "props.h5")
    ran = run_frcnn("nms", work / "scores.h5", "-o", work / "few.h5", "--max-per-image", "1", "--force")
    assert ran.code == 0
    with StageFile(work / "few.h5") as few:
        assert few.row_count == len(few)
    # As if made by another rule:
    with_provenance(work / "few.h5", work / "fake.h5", lambda told: told["thresholds"].update(max_per_image=2))
    assert_one_line_error(run_frcnn("eval", work / "fake.h5", *data, "--explain", *other), "was not computed from")


def test_curves(work, data, tmp_path):
    line = ("eval", work / "dets.h5", *data, "--curves")
    assert run_frcnn(*line, tmp_path / "pr.csv").code == 0
    with open(tmp_path / "pr.csv") as file:
        rows = list(csv.DictReader(file))
    told = run_frcnn("eval", work / "dets.h5", *data, "--json").json["classes"]
    for name, figures in told.items():
        mine = [row for row in rows if row["class"] == name]
        assert len(mine) == figures["detections"]
        assert float(mine[-1]["recall"]) == pytest.approx(figures["recall"], abs=1e-6)
        assert (np.diff([float(row["score"]) for row in mine]) <= 0).all()
    assert run_frcnn(*line, tmp_path / "pr.png").code == 0
    assert (tmp_path / "pr.png").read_bytes().startswith(b"\x89PNG")
    assert_one_line_error(run_frcnn(*line, tmp_path / "pr.png"), "exists already")
    assert run_frcnn(*line, tmp_path / "pr.doc").code == 2


def test_interval_and_coco(work, data):
    told = run_frcnn("eval", work / "dets.h5", *data, "--ci", "--coco", "--json").json
    assert told["interval"][0] <= told["map"] <= told["interval"][1]
    assert 0 < told["coco"]["AP50"] <= 1
    assert told["coco"]["AP50"] == pytest.approx(told["map"], abs=0.03)  # 101 points of the same curve
    shown = run_frcnn("eval", work / "dets.h5", *data, "--ci", "--coco").out
    assert "95% bootstrap interval" in shown
    assert "AR100" in shown


def test_coco_per_class_and_by_other_rules(work, data):
    told = run_frcnn("eval", work / "dets.h5", *data, "--coco", "--per-class", "--json").json
    each = told["coco_per_class"]
    for name in told["coco"]:
        known = [numbers[name] for numbers in each.values() if numbers[name] is not None]
        if known and name in ("AP", "AP50", "AP75", "AR100"):
            assert told["coco"][name] == pytest.approx(np.mean(known))
    rules = ("--coco-iou", "0.5", "--coco-areas", "tiny:0:400,rest:400:1e10", "--coco-detections", "1,300")
    other = run_frcnn("eval", work / "dets.h5", *data, "--coco", *rules, "--json").json["coco"]
    assert list(other) == ["AP", "AP50", "APtiny", "APrest", "AR1", "AR300", "ARtiny", "ARrest"]
    assert other["AP"] == other["AP50"] == pytest.approx(told["coco"]["AP50"], abs=1e-6)
    assert "COCO" in run_frcnn("eval", work / "dets.h5", *data, "--coco", "--per-class").out
    for wrong in (("--coco-iou", "0.5"), ("--coco", "--coco-iou", "0.9,0.5"), ("--coco", "--coco-areas", "x:1")):
        assert run_frcnn("eval", work / "dets.h5", *data, *wrong).code == 2


def test_diagnosed(work, data):
    line = ("eval", work / "dets.h5", *data, "--diagnose", "--score", "0.2")
    told = run_frcnn(*line, "--json").json
    counts = np.array(told["confusion"]["counts"])
    assert counts[:-1].sum(axis=1).tolist() == [figures["objects"] for figures in told["classes"].values()]
    assert told["confusion"]["classes"] == [*told["classes"], "background"]
    assert set(told["best_scores"]) == set(told["classes"])
    assert sum(told["calibration"]["counts"]) == sum(figures["detections"] for figures in told["classes"].values())
    shown = run_frcnn(*line).out
    for words in ("not detected", "best score threshold by F1", "calibration: expected error"):
        assert words in shown


def test_what_other_thresholds_would_change(work, data):
    """Each line is what frcnn nms and eval give with that value."""
    files = ("--explain", "--scores", work / "scores.h5", "--props", work / "props.h5")
    before = run_frcnn("eval", work / "strict.h5", *data, *files, "--json").json
    changes = {change["setting"]: change for change in before["what_if"]["changes"]}
    assert {"--iou 0.5", "--min-score 0.15"} <= set(changes)
    found = {name: round(one["recall"] * one["objects"]) for name, one in before["classes"].items()}
    for setting in ("--iou 0.5", "--min-score 0.15"):
        option, value = setting.split()
        options = {"--min-score": "0.3", "--per-set": "0", option: value}
        words = [word for pair in options.items() for word in pair]
        assert run_frcnn("nms", work / "scores.h5", "-o", work / "other.h5", "--force", *words).code == 0
        after = run_frcnn("eval", work / "other.h5", *data, "--json").json
        assert changes[setting]["mean_ap"] == pytest.approx(after["map"])
        now = {name: round(one["recall"] * one["objects"]) for name, one in after["classes"].items()}
        assert changes[setting]["recovered"] - changes[setting]["lost"] == sum(now.values()) - sum(found.values())
    no_proposal = sum(before["explanation"]["missed"]["no proposal"]["count"].values())
    assert before["what_if"]["more_boxes"] + before["what_if"]["uncovered"] >= no_proposal
    assert "what other thresholds would change" in run_frcnn("eval", work / "strict.h5", *data, *files).out


def test_labels_that_detections_contradict(work, data, tmp_path):
    line = ("data", "lint", data[1], "--with", work / "dets.h5", "--min-score", "0.3")
    told = run_frcnn(*line, "--json").json["contradictions"]
    confidences = [one["confidence"] for one in told]
    assert confidences == sorted(confidences, reverse=True)
    assert {one["kind"] for one in told} <= {"not labelled", "another class", "not detected"}
    ran = run_frcnn(*line, "--pictures", tmp_path / "p")
    assert f"{len(told)} contradiction(s) between the labels and" in ran.out
    assert len(list((tmp_path / "p").iterdir())) == len(told)
    assert run_frcnn("data", "lint", data[1], "--pictures", tmp_path / "q").code == 2


def test_a_board_of_sources(work, data):
    sources = ("--source", "sliding-window", "--source", "selective-search,preset=fast,max_pixels=20000")
    line = ("recall", work / "props.h5", "--board", *sources, *data)
    board = run_frcnn(*line, "--json").json["board"]
    assert {place["name"] for place in board} == {str(work / "props.h5"), sources[1], sources[3]}
    best = [place["average_recall"][-1] for place in board]
    assert best == sorted(best, reverse=True)
    by_name = {place["name"]: place for place in board}
    same, file = by_name["sliding-window"], by_name[str(work / "props.h5")]
    assert same["average_recall"] == pytest.approx(file["average_recall"])  # the file was made with it
    assert (file["milliseconds"], same["milliseconds"] > 0) == (None, True)
    lines = run_frcnn(*line, "--markdown").out.splitlines()
    assert lines[0].startswith("| source | boxes | AR 10 |")
    assert len(lines) == 5
    assert "oracle mAP" in run_frcnn(*line).out
    assert run_frcnn("recall", work / "props.h5", *sources, *data).code == 2
    assert run_frcnn("recall", *data).code == 2
    assert run_frcnn("recall", "--board", "--source", "sliding-window,x", *data).code == 2


def test_compare(work, data):
    told = run_frcnn("compare", work / "dets.h5", work / "dets.h5", *data, "--json").json
    assert (told["difference"], told["better"], told["first_ahead"]) == (0, "neither", 0.5)
    told = run_frcnn("compare", work / "dets.h5", work / "few.h5", *data, "--json").json
    assert told["difference"] == pytest.approx(told["map"][0] - told["map"][1])
    shown = run_frcnn("compare", work / "dets.h5", work / "few.h5", *data)
    assert "1,000 samples of the images" in shown.out
    told = run_frcnn("compare", work / "dets.h5", work / "few.h5", work / "strict.h5", *data, "--json").json
    assert len(told["comparisons"]) == 3
    assert all(one["p"] >= 0.003 for one in told["comparisons"])


def test_results_in_the_devkits_format(work, data, tmp_path):
    line = ("export", work / "dets.h5", "--format", "voc", "--split", "trainval", "-o", tmp_path / "results")
    assert run_frcnn(*line).code == 0
    assert_one_line_error(run_frcnn(*line), "exists already")
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == [
        f"comp4_det_trainval_{name}.txt" for name in ("disc", "square", "star", "triangle")
    ]
    ours, theirs = (run_frcnn("eval", path, *data, "--json").json for path in (work / "dets.h5", tmp_path / "results"))
    assert theirs["map"] == pytest.approx(ours["map"], abs=0.01)  # corners are rounded to a tenth
    assert run_frcnn("eval", tmp_path / "results", *data, "--explain", "--scores", "x", "--props", "y").code == 2
    wrong = shutil.copytree(tmp_path / "results", tmp_path / "wrong")
    (wrong / "comp4_det_trainval_disc.txt").write_text("nope 0.5 1 1 9 9\n")
    assert_one_line_error(run_frcnn("eval", wrong, *data), "lacks, e.g. 'nope'")


def test_results_in_cocos_format(work, tmp_path):
    line = ("export", work / "dets.h5", "--format", "coco", "-o", tmp_path / "r.json")
    assert run_frcnn(*line).code == 0
    results = json.loads((tmp_path / "r.json").read_text())
    with StageFile(work / "dets.h5") as file:
        assert len(results) == file.row_count
    assert set(results[0]) == {"file_name", "image_id", "category_id", "bbox", "score"}
    assert run_frcnn("export", work / "dets.h5", "--format", "csv", "-o", tmp_path / "r.csv").code == 0
    assert len((tmp_path / "r.csv").read_text().splitlines()) >= len(results) + 1
    assert run_frcnn("export", work / "props.h5", "--format", "voc", "-o", tmp_path / "r").code == 2
    assert_one_line_error(
        run_frcnn("export", work / "scores.h5", "--format", "csv", "-o", tmp_path / "s.csv"), "scores"
    )


def test_images_go_by_their_content_where_names_differ(work, voc, tmp_path):
    """VOC's key is COCO's file name without its ending."""
    made = run_frcnn("data", "convert", f"voc:{voc}", "--split", "trainval", "--to", "coco", "-o", tmp_path / "c")
    assert made.code == 0, made.err
    spec = f"coco:{tmp_path}/c/annotations/instances_trainval.json:{tmp_path}/c/images"
    line = ("export", work / "dets.h5", "--format", "coco", "-o", tmp_path / "r.json", "--data", spec)
    ran = run_frcnn(*line)
    assert ran.code == 0, ran.err
    again, before = (run_frcnn("eval", path, "--data", spec, "--json").json for path in (tmp_path / "r.json", line[1]))
    assert again["map"] == pytest.approx(before["map"], abs=1e-4)
    assert {n: c["detections"] for n, c in again["classes"].items()} == {
        n: c["detections"] for n, c in before["classes"].items()
    }


def test_class_names_that_are_no_file_names(work, tmp_path):
    evil = ["/../../evil"]
    path = with_provenance(
        work / "dets.h5", tmp_path / "d.h5", lambda told: told.update(classes=evil + told["classes"][1:])
    )
    ran = run_frcnn("export", path, "--format", "voc", "-o", tmp_path / "deep/results")
    assert_one_line_error(ran, "cannot be part of a file name")
    assert not list(tmp_path.rglob("*evil*"))


def test_recipes_and_rules_that_are_damaged(work, data, tmp_path):
    def changed(name, **values):
        return with_provenance(work / f"{name}.h5", tmp_path / f"{name}.h5", lambda told: told.update(values))

    for recipe in (["x"], {"a": 1}, {"solver": {"nope": 1}}):
        ran = run_frcnn("nms", changed("scores", recipe=recipe), "-o", tmp_path / "o.h5", "--force")
        assert_one_line_error(ran, "scores.h5 records a damaged recipe")
    told = ("--explain", "--scores", work / "scores.h5", "--props", work / "props.h5")
    for rule in ([], {"iou": "x"}, {"what": 1}, {"iou": 0.3, "above": [0.1]}):
        assert_one_line_error(run_frcnn("eval", changed("dets", thresholds=rule), *data, *told), "dets.h5")


def test_scores_that_tell_no_recipe_go_by_the_plain_rule(work, tmp_path):
    path = with_provenance(work / "scores.h5", tmp_path / "s.h5", lambda told: told.pop("recipe"))
    assert run_frcnn("nms", path, "-o", tmp_path / "d.h5").code == 0
    rule = json.loads(run_frcnn("inspect", tmp_path / "d.h5", "--json").out)["provenance"]["thresholds"]
    assert rule == {"iou": 0.3, "min_score": 0.05, "max_per_image": 100, "per_class": 0, "per_set": 0}


def test_some_classes_of_a_results_file(work, data, tmp_path):
    assert run_frcnn("export", work / "dets.h5", "--format", "coco", "-o", tmp_path / "r.json").code == 0
    one, all_ = (
        run_frcnn("eval", tmp_path / "r.json", *data, *more, "--json").json for more in (("--classes", "disc"), ())
    )
    assert one["map"] == pytest.approx(all_["classes"]["disc"]["ap"])
    own = run_frcnn("eval", work / "dets.h5", *data, "--json").json
    assert all_["map"] == pytest.approx(own["map"], abs=1e-6)


def test_results_of_some_classes_only(work, data, tmp_path):
    """A class without a file is an error, and --classes, which the error advises, evaluates the others."""
    assert (
        run_frcnn("export", work / "dets.h5", "--format", "voc", "-o", tmp_path / "r", "--split", "trainval").code == 0
    )
    whole = run_frcnn("eval", tmp_path / "r", *data, "--json").json
    (tmp_path / "r" / "comp4_det_trainval_star.txt").unlink()
    ran = run_frcnn("eval", tmp_path / "r", *data)
    assert_one_line_error(ran, "holds no results of star", "--classes")
    some = run_frcnn("eval", tmp_path / "r", *data, "--classes", "disc,square,triangle", "--json").json
    for name in ("disc", "square", "triangle"):
        assert some["classes"][name]["ap"] == whole["classes"][name]["ap"]


def test_exported_results_are_whole_or_not_there(work, data, tmp_path):
    """A second export does not mix with the files of the first."""
    folder = tmp_path / "results"
    line = ("export", work / "dets.h5", "--format", "voc", "-o", folder)
    assert run_frcnn(*line).code == 0
    first = {path.name: path.read_text() for path in folder.iterdir()}
    for other in ("comp4_det_val_other.txt", "comp3_det_test_disc.txt"):
        (folder / other).write_text("kept")
    assert_one_line_error(run_frcnn(*line), "exists already")
    (folder / "comp4_det_test_old class.txt").write_text("kept")
    assert_one_line_error(run_frcnn(*line, "--force"), "Remove comp4_det_test_old class.txt")
    (folder / "comp4_det_test_old class.txt").unlink()
    assert run_frcnn(*line, "--force").code == 0
    again = {path.name: path.read_text() for path in folder.iterdir()}
    assert again == first | {"comp4_det_val_other.txt": "kept", "comp3_det_test_disc.txt": "kept"}
    assert [path.name for path in tmp_path.iterdir()] == ["results"]
