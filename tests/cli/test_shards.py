"""Shards: every machine computes its part, and every command reads the parts as one."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from frcnn_cli.core.errors import UsageError
from frcnn_cli.core.shards import Shard
from frcnn_cli.detector.detector import Detector
from frcnn_cli.store.stage import open_stage
from tests.conftest import assert_one_line_error, run_frcnn, same_datasets, with_provenance

SMALL = ("--backbone", "small", "--weights", "none", "--short-side", 0, "--background-iou", 0, 0.5, "--epochs", 1)
PROPOSALS = ("--source", "sliding-window", "--max-boxes", 60, "--workers", 0)


def frcnn(*arguments):
    done = run_frcnn(*arguments)
    assert done.code == 0, done.err
    return done


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """All stages in one piece and in three shards: (folder, images, model)."""
    from frcnn_cli.data.synthetic import make_dataset

    folder = tmp_path_factory.mktemp("shards")
    make_dataset(folder / "voc", train=10, test=6, seed=5, size=(110, 90))
    images = folder / "voc" / "JPEGImages"
    frcnn("proposals", images, "-o", folder / "props.h5", *PROPOSALS)
    run = folder / "run"
    frcnn(
        "train",
        "--data",
        f"voc:{folder / 'voc'}",
        "--split",
        "trainval",
        "--props",
        folder / "props.h5",
        *SMALL,
        "-o",
        run,
    )
    stages(folder, images, run, folder / "feats.h5", folder / "props.h5", "")
    for i in (1, 2, 3):
        frcnn("proposals", images, "-o", folder / f"props-{i}.h5", *PROPOSALS, "--shard", f"{i}/3")
    for i in (1, 2, 3):
        stages(folder, images, run, folder / f"feats-{i}.h5", folder / "props-*.h5", f"-{i}", "--shard", f"{i}/3")
    return folder


def stages(folder, images, run, feats, props, name, *shard):
    frcnn("features", images, "--model", run, "-o", feats, *shard)
    frcnn("score", feats, "--props", props, "--model", run, "-o", folder / f"scores{name}.h5", *shard)
    frcnn("detect", images, "--model", run, "-o", folder / f"dets{name}.h5", *shard)
    frcnn("embed", images, "--model", run, "--per-image", "2-5", "-o", folder / f"vectors{name}.h5", *shard)


@pytest.mark.parametrize("stage", ["props", "feats", "scores", "dets", "vectors"])
def test_merged_shards_equal_a_run_in_one_piece(made, stage, tmp_path):
    frcnn("merge", *(made / f"{stage}-{i}.h5" for i in (1, 2, 3)), "-o", tmp_path / "merged.h5")
    whole, merged = (h5py.File(path) for path in (made / f"{stage}.h5", tmp_path / "merged.h5"))
    names: list[str] = []
    whole.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    assert len(names) > 5
    for name in names:
        np.testing.assert_array_equal(merged[name][()], whole[name][()], name)
    if stage != "scores":  # whose provenance has a hash of hashes
        assert same_datasets(made / f"{stage}.h5", tmp_path / "merged.h5")


def test_every_image_is_in_one_shard(made):
    parts = [[image.key for image in open_stage(made / f"props-{i}.h5").images] for i in (1, 2, 3)]
    assert all(parts)
    assert sorted(key for part in parts for key in part) == [
        image.key for image in open_stage(made / "props.h5").images
    ]


def test_commands_read_a_pattern_as_one_file(made, tmp_path):
    data = ("--data", f"voc:{made / 'voc'}", "--split", "test")
    one, many = (frcnn("recall", made / f"{n}.h5", *data, "--json").json for n in ("props", "props-*"))
    assert one["files"][0].pop("props") != many["files"][0].pop("props")
    assert one == many
    frcnn("nms", made / "scores.h5", "-o", tmp_path / "one.h5")
    frcnn("nms", made / "scores-*.h5", "-o", tmp_path / "many.h5")
    with open_stage(tmp_path / "one.h5") as a, open_stage(tmp_path / "many.h5") as b:
        for (image, rows), (other, same) in zip(a, b, strict=True):
            assert image == other
            np.testing.assert_array_equal(rows["boxes"], same["boxes"])
    for name in ("one", "many"):
        frcnn("eval", tmp_path / f"{name}.h5", *data, "--json")
    assert (
        frcnn("eval", made / "dets.h5", *data, "--json").json["map"]
        == frcnn("eval", made / "dets-*.h5", *data, "--json").json["map"]
    )
    for name in ("props", "props-*"):
        run = tmp_path / f"run-{len(name)}"
        frcnn("train", *data[:2], "--split", "trainval", "--props", made / f"{name}.h5", *SMALL, "-o", run)
    one, many = (Detector.load(tmp_path / f"run-{n}", "cpu") for n in (5, 7))
    assert one.model_id == many.model_id
    assert frcnn("inspect", made / "props-*.h5", "--verify", "--json").json["images"] == 16


def test_proposals_from_shards_of_another_run(made, tmp_path):
    """A source of boxes from files takes a pattern too, so that vectors are computed for the boxes of all shards."""
    model = ("--model", made / "run")
    for name in ("props", "props-*"):
        boxes = ("--boxes", made / f"{name}.h5")
        frcnn("embed", made / "voc/JPEGImages", *boxes, *model, "-o", tmp_path / f"{len(name)}.h5")
    with open_stage(tmp_path / "5.h5") as one, open_stage(tmp_path / "7.h5") as many:
        np.testing.assert_array_equal(one[3]["vectors"], many[3]["vectors"])


def test_files_that_are_no_shards_are_read_as_one_too(made, tmp_path):
    images = sorted((made / "voc" / "JPEGImages").iterdir())
    frcnn("proposals", *images[:7], "-o", tmp_path / "a.h5", *PROPOSALS)
    frcnn("proposals", *images[7:], "-o", tmp_path / "b.h5", *PROPOSALS)
    frcnn("merge", f"{tmp_path}/a.h5,{tmp_path}/b.h5", "-o", tmp_path / "both.h5")
    assert same_datasets(tmp_path / "both.h5", made / "props.h5")


def test_a_shard_without_images(made, tmp_path):
    """Of 16 images in 40 shards, some get none: their tasks succeed, and their files are read like the others."""
    empty = next(
        i for i in range(1, 41) if not any(Shard(i, 40).holds(p.name) for p in (made / "voc/JPEGImages").iterdir())
    )
    shard = ("--shard", f"{empty}/40")
    stages(tmp_path, made / "voc/JPEGImages", made / "run", tmp_path / "feats.h5", made / "props.h5", "", *shard)
    frcnn("proposals", made / "voc/JPEGImages", "-o", tmp_path / "props.h5", *PROPOSALS, *shard)
    for name in ("props", "feats", "scores", "dets", "vectors"):
        with open_stage(tmp_path / f"{name}.h5") as file:
            assert len(file) == 0


def test_scores_of_a_shard_of_maps_are_a_shard(made, tmp_path):
    for i in (1, 2):
        line = ("score", made / f"feats-{i}.h5", "--props", made / "props-*.h5", "--model", made / "run")
        frcnn(*line, "-o", tmp_path / f"scores-{i}.h5")
        assert_one_line_error(
            run_frcnn(*line, "--shard", "1/2", "-o", tmp_path / "x.h5"), f"is shard {i}/3 already", code=2
        )
    done = run_frcnn("nms", tmp_path / "scores-*.h5", "-o", tmp_path / "dets.h5")
    assert_one_line_error(done, "of 3 shards, 3/3 is missing")
    assert_one_line_error(run_frcnn("nms", tmp_path / "scores-1.h5", "-o", tmp_path / "d.h5"), "is shard 1/3", code=2)
    frcnn("nms", tmp_path / "scores-1.h5", "-o", tmp_path / "part-1.h5", "--per-set", 0)
    assert open_stage(tmp_path / "part-1.h5").provenance["shard"] == "1/3"


def test_a_shard_where_all_images_are_needed(made):
    data = ("--data", f"voc:{made / 'voc'}", "--split", "test")
    for line in (("eval", made / "dets-1.h5", *data), ("recall", made / "props-1.h5", *data)):
        assert_one_line_error(run_frcnn(*line), "is shard 1/3, and lacks", "Name all shards")
    done = run_frcnn("inspect", made / "props-1.h5", made / "props-2.h5")
    assert done.code == 2
    assert "a pattern in quotes" in done.err
    assert run_frcnn("proposals", made / "voc", "-o", "x.h5", "--shard", "1/3", "--shard", "2/3").code == 2


def test_what_does_not_belong_together(made, tmp_path):
    def refused(*names, says):
        done = run_frcnn("merge", *names, "-o", tmp_path / "m.h5")
        assert_one_line_error(done, says)

    one, two, three = (made / f"props-{i}.h5" for i in (1, 2, 3))
    refused(one, three, says="of 3 shards, 2/3 is missing. Compute it with --shard 2/3")
    refused(one, two, three, two, says="is named twice")
    shutil.copy(two, tmp_path / "copy.h5")
    refused(one, two, three, tmp_path / "copy.h5", says="are both shard 2/3")
    refused(one, two, three, made / "props.h5", says="is no shard, but")
    refused(one, two, made / "feats-3.h5", says="not a proposals file")
    frcnn("proposals", made / "voc/JPEGImages", "-o", tmp_path / "other.h5", *PROPOSALS, "--shard", "3/4")
    refused(one, two, tmp_path / "other.h5", says="is a shard of 4")
    other = with_provenance(three, tmp_path / "changed.h5", lambda recorded: recorded.update(max_boxes=7))
    refused(one, two, other, says="was made in another way than")
    refused(made / "props.h5", made / "props.h5", says="both hold image")
    data = f"voc:{made / 'voc'}"
    frcnn("proposals", data, "--split", "trainval", "-o", tmp_path / "voc.h5", *PROPOSALS)
    refused(made / "props.h5", tmp_path / "voc.h5", says="name the same image in two ways")
    refused(tmp_path / "nothing-*.h5", says="no file matches")
    assert_one_line_error(run_frcnn("nms", made / "scores-1.h5", "-o", tmp_path / "n.h5"), "is shard 1/3, but", code=2)
    assert_one_line_error(
        run_frcnn("merge", f"{made}/props-*.h5", "-o", two, "--force"), "is also an input of this command"
    )


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3", "1/99999999"])
def test_what_is_no_shard(text, made, tmp_path):
    with pytest.raises(UsageError, match="is not a shard"):
        Shard.parse(text)
    done = run_frcnn("proposals", made / "voc/JPEGImages", "-o", tmp_path / "p.h5", f"--shard={text}")
    assert done.code == 2


def test_the_slurm_example_runs_as_it_stands(made, tmp_path):
    script = Path(__file__).parents[2] / "examples" / "slurm.sh"
    tools = Path(sys.executable).parent
    for task in (1, 2):
        environment = os.environ | {
            "SLURM_ARRAY_TASK_ID": str(task),
            "SLURM_ARRAY_TASK_COUNT": "1",
            "SLURM_CPUS_PER_TASK": "1",
        }
        environment["PATH"] = f"{tools}:{environment['PATH']}"
        line = ["bash", script, "2", made / "voc" / "JPEGImages", made / "run", tmp_path / "results"]
        done = subprocess.run(line, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    with open_stage(tmp_path / "results" / "dets-*.h5") as found, open_stage(made / "dets.h5") as whole:
        assert found.images == whole.images
    with open_stage(tmp_path / "results" / "props-*.h5") as found:
        assert len(found) == 16


def test_the_kubernetes_example_is_a_job_whose_lines_are_commands():
    job = yaml.safe_load((Path(__file__).parents[2] / "examples" / "kubernetes.yaml").read_text())
    assert (job["kind"], job["spec"]["completionMode"]) == ("Job", "Indexed")
    (line,) = job["spec"]["template"]["spec"]["containers"][0]["args"]
    expanded = subprocess.run(
        ["bash", "-c", f"frcnn() {{ printf '%s\\n' \"$@\"; }}; {line}"],
        env=os.environ | {"JOB_COMPLETION_INDEX": "7"}, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert expanded == shlex.split("proposals /images --shard 8/8 -o /results/props-8-of-8.h5")
