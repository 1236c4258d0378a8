"""What users get wrong: one line that says what, where and how to mend it, exit code 1 (2 for usage), nothing left."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image as Pillow

from frcnn_cli.store.reader import StageFile
from tests.conftest import assert_one_line_error, run_frcnn, same_datasets, wait_for
from tests.data.test_voc import write_voc


@pytest.fixture(scope="module")
def props(tmp_path_factory, voc):
    path = tmp_path_factory.mktemp("props") / "props.h5"
    windows = ("--source", "sliding-window", "--workers", 0)
    assert run_frcnn("proposals", f"voc:{voc}", "--split", "trainval", "-o", path, *windows).code == 0
    return path


SMALL = ("--backbone", "small", "--weights", "none", "--short-side", "0", "--epochs", "1")


def test_one_bad_image_does_not_lose_the_others(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for i in range(5):
        Pillow.new("RGB", (30 + i, 40), (i, 90, 9)).save(images / f"{i}.png")
    (images / "bad.jpg").write_bytes(b"not an image")
    whole = (images / "0.png").read_bytes()
    (images / "cut.png").write_bytes(whole[: len(whole) // 2])
    ran = run_frcnn("proposals", images, "-o", tmp_path / "p.h5", "--source", "sliding-window", "--json")
    assert ran.code == 1
    assert "Traceback" not in ran.err
    assert "2 of 7 images failed" in ran.err
    assert {failure["image"] for failure in ran.json["failed"]} == {"bad.jpg", "cut.png"}
    with StageFile(tmp_path / "p.h5") as file:
        assert [image.key for image in file.images] == [f"{i}.png" for i in range(5)]


def test_nothing_to_do(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert_one_line_error(run_frcnn("proposals", empty, "-o", tmp_path / "p.h5"), "empty", "holds no images")
    ran = run_frcnn("proposals", tmp_path / "none.jpg", "-o", tmp_path / "p.h5")
    assert_one_line_error(ran, "none.jpg does not exist")
    assert "none.jpg does not exist" in ran.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty"]


def test_outputs_that_exist_or_cannot_be_written(tmp_path, photo, props):
    assert_one_line_error(run_frcnn("proposals", photo, "-o", props), "exists already", "--force")
    assert_one_line_error(run_frcnn("proposals", photo, "-o", photo / "p.h5"), "folder")
    assert_one_line_error(run_frcnn("proposals", photo, "-o", tmp_path), "is a folder")
    assert_one_line_error(run_frcnn("proposals", photo, "-o", "/proc/p.h5"), "/proc")


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ("no option 'scale'", ["scale=1"]),
        ("stride must be a number, not 'far'", ["stride=far"]),
        ("not KEY=VALUE", ["stride"]),
        ("too large (maximum 1)", ["stride=2"]),
    ],
)
def test_settings_are_checked_before_any_work(tmp_path, photo, words, settings):
    pairs = [word for pair in settings for word in ("--set", pair)]
    ran = run_frcnn("proposals", photo, "-o", tmp_path / "p.h5", "--source", "sliding-window", *pairs)
    assert_one_line_error(ran, words, code=2)
    assert not (tmp_path / "p.h5").exists()


def test_an_unknown_source(tmp_path, photo):
    ran = run_frcnn("proposals", photo, "-o", tmp_path / "p.h5", "--source", "magic")
    assert_one_line_error(ran, "'magic'", "sliding-window", code=2)


def test_debug_shows_the_traceback(tmp_path, photo):
    ran = run_frcnn("proposals", photo, "-o", tmp_path / "p.h5", "--source", "magic", "--debug")
    assert "Traceback" in ran.err


def broken(props, tmp_path, how):
    path = tmp_path / "broken.h5"
    shutil.copy(props, path)
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:2000])
    elif how == "not an HDF5 file":
        path.write_bytes(b"x" * 5000)
    else:
        with h5py.File(path, "r+") as file:
            file.attrs["format_version"] = "9.0"
    return path


@pytest.mark.parametrize("how", ["truncated", "not an HDF5 file", "newer frcnn"])
def test_props_files_that_are_not_whole(tmp_path, voc, props, how):
    path = broken(props, tmp_path, how)
    ran = run_frcnn("train", "--data", f"voc:{voc}", "--props", path, "-o", tmp_path / "run", *SMALL)
    assert_one_line_error(ran, "broken.h5", how)
    assert not (tmp_path / "run").exists()
    assert_one_line_error(run_frcnn("inspect", path), how)


def test_props_of_other_images(tmp_path, voc, props):
    ran = run_frcnn("train", "--data", f"voc:{voc}", "--split", "test", "--props", props, "-o", tmp_path / "r", *SMALL)
    assert_one_line_error(ran, "holds none of the 6 images", "--split")
    changed = tmp_path / "voc"
    shutil.copytree(voc, changed)
    Pillow.new("RGB", (50, 50)).save(changed / "JPEGImages/0003.jpg")
    ran = run_frcnn("recall", props, "--data", f"voc:{changed}", "--split", "trainval")
    assert_one_line_error(ran, "'0003'", "differs in content")


def test_annotations_that_are_wrong(tmp_path):
    folder = write_voc(tmp_path / "voc", {"a": [("cat", 5, 5, 30, 30)], "b": [("cat", 10, 10, 9, 20)], "c": []})
    props = tmp_path / "p.h5"
    windows = ("--source", "sliding-window", "--workers", 0)
    assert run_frcnn("proposals", f"voc:{folder}", "--split", "train", "-o", props, *windows).code == 0
    line = ("train", "--data", f"voc:{folder}", "--split", "train", "--props", props, "-o", tmp_path / "run", *SMALL)
    assert_one_line_error(run_frcnn(*line), "b.xml: cat 10 10 9 20 has no area", "--bad-boxes fix")
    fixed = run_frcnn(*line, "--bad-boxes", "fix")
    assert fixed.code == 0, fixed.err
    assert "dropped 1 box" in fixed.err
    write_voc(folder, {"a": [("cat", 0, 5, 30, 30)]})
    ran = run_frcnn("recall", props, "--data", f"voc:{folder}", "--split", "train")
    assert_one_line_error(ran, "a.xml: cat 0 5 30 30 reaches outside", "--bad-boxes fix")
    (folder / "Annotations/a.xml").unlink()
    ran = run_frcnn("recall", props, "--data", f"voc:{folder}", "--split", "train")
    assert_one_line_error(ran, "image 'a' has no annotation")


def test_a_data_set_that_is_not_there(tmp_path, props):
    line = ("train", "--data", "voc", "--props", props)
    ran = run_frcnn(*line, cwd=tmp_path, env={"FRCNN_DATA": ""})
    assert_one_line_error(ran, "looked in data, data/VOCdevkit", "FRCNN_DATA")
    assert_one_line_error(run_frcnn("recall", props, "--data", "coco:x"), "does not name a data set")


def test_a_class_that_the_model_does_not_know(tmp_path, voc, props):
    from frcnn_cli.data.formats.voc import read_voc
    from tests.detector.test_model import detector

    detector(classes=("disc", "square")).save(tmp_path / "model.safetensors")
    image = read_voc(voc, "test").samples[0].ref.path
    out = tmp_path / "d.h5"
    found = run_frcnn("detect", image, "--model", tmp_path / "model.safetensors", "-o", out)
    assert found.code == 0, found.err
    ran = run_frcnn("eval", out, "--data", f"voc:{voc}")
    assert_one_line_error(ran, "'star'", "does not know", "--classes disc,square")


def test_numbers_that_are_none(tmp_path, photo, voc, props):
    assert run_frcnn("proposals", photo, "-o", tmp_path / "p.h5", "--min-size", "nan").code == 2
    line = ("train", "--data", f"voc:{voc}", "--props", props, "-o", tmp_path / "run")
    for words in (("--epochs", "inf"), ("--epochs", "0"), ("--lr", "nan"), ("--checkpoint-every", "inf")):
        ran = run_frcnn(*line, *words)
        assert ran.code == 2
        assert words[0] in ran.err
    assert not (tmp_path / "run").exists()


def test_a_damaged_box_file_is_said_once(tmp_path, voc):
    (tmp_path / "b.json").write_text("{")
    line = (
        "proposals",
        f"voc:{voc}",
        "-o",
        tmp_path / "p.h5",
        "--source",
        "file",
        "--set",
        f"path={tmp_path / 'b.json'}",
    )
    ran = run_frcnn(*line)
    assert_one_line_error(ran, "b.json is not JSON")
    assert ran.err.count("b.json") == 1


def test_an_output_that_is_also_an_input(tmp_path, photo, props):
    import numpy as np

    from frcnn_cli.core.image import ImageRecord
    from frcnn_cli.store.schema import SCORES
    from frcnn_cli.store.writer import StageWriter

    scores = tmp_path / "scores.h5"
    with StageWriter(scores, SCORES, {"classes": ["a"]}) as out:
        values = {"probabilities": np.ones((1, 2), np.float32), "boxes": np.zeros((1, 1, 4), np.float32)}
        out.add(ImageRecord("x", 9, 9, "d"), values)
        out.finish()
    before = scores.read_bytes()
    assert_one_line_error(run_frcnn("nms", scores, "-o", scores, "--force"), "is also an input")
    assert scores.read_bytes() == before
    line = ("proposals", photo, "--source", "file", "--set", f"path={props}", "-o", props, "--force")
    assert_one_line_error(run_frcnn(*line), "is also an input")


def test_an_option_that_is_given_twice(photo, tmp_path):
    line = ("proposals", photo, "-o", tmp_path / "a.h5")
    for again in ((*line, "--output", tmp_path / "b.h5"), ("train", "--data", "voc:a", "--data", "voc:b")):
        ran = run_frcnn(*again)
        assert ran.code == 2
        assert "is given 2 times, but takes one value." in ran.err
    assert not list(tmp_path.glob("*.h5"))
    assert run_frcnn(*line, "--workers", "2", "--workers", "1", "--set", "preset=fast", "--set", "k=100").code == 0


def test_words_that_name_no_folder_and_no_file(tmp_path, photo):
    ran = run_frcnn("detect", photo, "-o", tmp_path / "o.txt")
    assert ran.code == 2
    assert "OUT is a folder, a .jpg or .png, or a .h5 file" in ran.err
    assert_one_line_error(run_frcnn("inspect", tmp_path), "holds no model.safetensors")
    assert_one_line_error(run_frcnn("detect", photo, env={"FRCNN_MODEL": "/none"}), "$FRCNN_MODEL names /none")


def test_a_display_that_is_gone(monkeypatch):
    from frcnn_cli.system.window import has_display

    monkeypatch.setenv("DISPLAY", ":9876")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert not has_display()


def test_a_gpu_that_is_absent(tmp_path, voc, props):
    line = ("train", "--data", f"voc:{voc}", "--props", props, "-o", tmp_path / "r", *SMALL, "--device", "cuda:7")
    assert_one_line_error(run_frcnn(*line), "no GPU 'cuda:7'", "--device cpu")


def test_a_learning_rate_that_explodes(tmp_path, voc, props):
    line = ("train", "--data", f"voc:{voc}", "--props", props, "-o", tmp_path / "r", *SMALL)
    ran = run_frcnn(*line, "--lr", "1e6", "--checkpoint-every", "0.2", "--epochs", "8")
    assert_one_line_error(ran, "at iteration", "lower learning rate")


def test_weights_that_are_not_there(tmp_path, voc, props):
    line = ("train", "--data", f"voc:{voc}", "--props", props, "-o", tmp_path / "r", "--backbone", "alexnet")
    assert_one_line_error(run_frcnn(*line, "--weights", tmp_path / "none.pth"), "none.pth")


def test_maps_of_another_model(tmp_path, photo):
    from tests.detector.test_model import detector

    one, other = detector(), detector()
    other.conv[0].weight.data += 1
    one.save(tmp_path / "one.safetensors")
    other.save(tmp_path / "other.safetensors")
    line = ("features", photo, "--model", tmp_path / "one.safetensors", "-o", tmp_path / "f.h5")
    assert run_frcnn(*line).code == 0
    assert run_frcnn("proposals", photo, "-o", tmp_path / "p.h5").code == 0
    line = ("score", tmp_path / "f.h5", "--props", tmp_path / "p.h5", "-o", tmp_path / "s.h5")
    ran = run_frcnn(*line, "--model", tmp_path / "other.safetensors")
    assert_one_line_error(ran, "computed with other conv layers")
    ran = run_frcnn("score", tmp_path / "p.h5", *line[2:], "--model", tmp_path / "one.safetensors")
    assert_one_line_error(ran, "is a proposals file, not a features file")


@pytest.mark.parametrize("limit", [40_000, 0.97], ids=["while images are kept", "while the file is put together"])
def test_a_disk_that_fills_up(tmp_path, voc, limit):
    """A limit on the file's size stands in for a full disk: the system refuses the write in the same way."""
    whole = tmp_path / "whole.h5"
    line = ["proposals", f"voc:{voc}", "--split", "trainval", "--source", "sliding-window", "--workers", "0"]
    assert run_frcnn(*line, "-o", whole).code == 0
    most = limit if limit > 1 else int(limit * whole.stat().st_size)
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {most}));"
        "from frcnn_cli.cli import main; main(sys.argv[1:])"
    )
    path = tmp_path / "p.h5"
    done = subprocess.run([sys.executable, "-c", code, *line, "-o", str(path)], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "error: no space left to write" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.h5.partial", "whole.h5"]
    again = run_frcnn(*line, "-o", path)
    assert again.code == 0
    assert "were finished by an earlier run" in again.err
    assert same_datasets(path, whole)


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "frcnn_cli", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_killed_twenty_times_at_random_moments_and_run_again(tmp_path):
    """kill -9 while it starts, works, or assembles; the same command does what is missing, into the same datasets."""
    rng = np.random.default_rng(20131213)
    images = tmp_path / "images"
    images.mkdir()
    for i in range(40):
        Pillow.fromarray(rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)).save(images / f"{i:02d}.png")
    line = ("proposals", images, "--source", "opencv-selective-search", "--workers", 2)
    path, journal, whole = tmp_path / "p.h5", tmp_path / "p.h5.partial", tmp_path / "whole.h5"
    assert run_frcnn(*line, "-o", whole).code == 0
    continued = 0
    for _ in range(20):
        size = journal.stat().st_size if journal.exists() else 0
        process = start(*line, "-o", path)
        if rng.random() < 0.8:  # after some more images; otherwise at once
            wait_for(lambda least=size: journal.exists() and journal.stat().st_size > max(least, 200), process)
        time.sleep(rng.random() * 0.4)
        process.kill()
        process.wait()
        continued += size > 0
        if path.exists():  # it came to its end first
            assert same_datasets(path, whole)
            path.unlink()
    assert continued >= 5
    assert run_frcnn(*line, "-o", path).code == 0
    assert same_datasets(path, whole)
    assert not journal.exists()


def test_an_image_that_takes_longer_than_the_timeout_is_named_and_the_rest_are_done(tmp_path):
    rng = np.random.default_rng(0)
    images = tmp_path / "images"
    images.mkdir()
    for name, shape in (("a", (60, 80, 3)), ("huge", (2400, 3200, 3)), ("z", (60, 80, 3))):
        Pillow.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(images / f"{name}.png", compress_level=1)
    line = ("proposals", images, "-o", tmp_path / "p.h5", "--workers", 1, "--timeout", 1.5, "--set", "max_pixels=0")
    ran = run_frcnn(*line)
    assert ran.code == 1
    assert "took longer than 1.5 s on" in ran.err
    assert "huge.png" in ran.err
    with StageFile(tmp_path / "p.h5") as file:
        assert [image.key for image in file.images] == ["a.png", "z.png"]


def test_images_that_failed_are_done_by_the_same_command_once_they_are_mended(tmp_path, photo):
    images = tmp_path / "images"
    images.mkdir()
    for name in ("a.png", "c.png"):
        shutil.copy(photo, images / name)
    (images / "b.png").write_bytes(photo.read_bytes()[:500])
    props = tmp_path / "p.h5"
    line = ("proposals", images, "-o", props, "--source", "sliding-window", "--workers", 0)
    assert run_frcnn(*line).code == 1
    before = props.read_bytes()
    assert_one_line_error(run_frcnn(*line, "--min-size", 3), "exists already")
    assert_one_line_error(run_frcnn(*line[:1], images / "a.png", *line[2:]), "exists already")
    assert props.read_bytes() == before
    Pillow.open(photo).rotate(180).save(images / "b.png")
    ran = run_frcnn(*line)
    assert ran.code == 0, ran.err
    assert "2 of 3 images were finished by an earlier run" in ran.err
    assert_one_line_error(run_frcnn(*line), "exists already")
    whole = tmp_path / "whole.h5"
    assert run_frcnn(*line[:2], "-o", whole, *line[4:]).code == 0
    assert same_datasets(props, whole)
    assert sorted(path.name for path in tmp_path.glob("*.h5*")) == ["p.h5", "whole.h5"]


def test_a_timeout_needs_a_process(tmp_path, photo):
    ran = run_frcnn("proposals", photo, "-o", tmp_path / "p.h5", "--workers", 0, "--timeout", 1)
    assert ran.code == 2
    assert "--timeout needs a process" in ran.err


@pytest.mark.parametrize("stage", ["features", "score"])
def test_killed_stages_of_the_network_and_run_again(tmp_path, voc, stage):
    from tests.detector.test_model import detector

    model, data = tmp_path / "model.safetensors", ("voc:" + str(voc), "--split", "trainval")
    detector().save(model)
    feats, props = tmp_path / "feats.h5", tmp_path / "props.h5"
    features = ("features", *data, "--model", model)
    assert run_frcnn(*features, "-o", feats).code == 0
    assert run_frcnn("proposals", *data, "-o", props, "--source", "sliding-window", "--workers", 0).code == 0
    line = features if stage == "features" else ("score", feats, "--props", props, "--model", model)
    whole, path = tmp_path / "whole.h5", tmp_path / "p.h5"
    assert run_frcnn(*line, "-o", whole).code == 0
    journal = tmp_path / "p.h5.partial"
    process = start(*line, "-o", path)
    wait_for(lambda: journal.exists() and journal.stat().st_size > 2_000, process)
    process.kill()
    process.wait()
    assert run_frcnn(*line, "-o", path, *(["--force"] if path.exists() else [])).code == 0
    assert same_datasets(path, whole)
    assert not journal.exists()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads processes from /proc, which this system lacks")
def test_workers_end_with_their_parent(tmp_path, voc):
    line = ("proposals", f"voc:{voc}", "--split", "trainval", "--source", "opencv-selective-search", "--workers", 2)
    process = start(*line, "-o", tmp_path / "p.h5")
    journal = tmp_path / "p.h5.partial"
    wait_for(lambda: journal.exists() and journal.stat().st_size > 1_000, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    assert len(children) >= 2
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and any(alive(pid) for pid in children):
        time.sleep(0.1)
    assert not any(alive(pid) for pid in children), "workers outlive their parent"


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_ctrl_c_in_training_saves_and_says_how_to_go_on(tmp_path, voc, props):
    run = tmp_path / "run"
    common = ("--data", f"voc:{voc}", "--props", props, *SMALL[:-1], "40", "--background-iou", "0", "0.5")
    process = start("train", *common, "-o", run)
    wait_for((run / "state.safetensors").exists, process)
    assert process.poll() is None, "it ended before it could be interrupted"
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 130
    assert f"frcnn train --resume -o {run}" in said
    assert run_frcnn("train", "--resume", "-o", run).code == 0
    assert run_frcnn("train", *common, "-o", tmp_path / "whole").code == 0
    models = [(folder / "model.safetensors").read_bytes() for folder in (run, tmp_path / "whole")]
    assert models[0] == models[1]


def test_a_run_that_ignores_a_closed_terminal_goes_on():
    """nohup starts a process with SIGHUP ignored; otherwise it saves and stops, as SIGTERM does."""
    from frcnn_cli.cli.common.interrupt import StopOnSignal

    for ignored, stops in ((True, False), (False, True)):
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
        try:
            with StopOnSignal(Path("run")) as should_stop:
                os.kill(os.getpid(), signal.SIGHUP)
                assert should_stop() is stops
            assert signal.getsignal(signal.SIGHUP) == (signal.SIG_IGN if ignored else signal.SIG_DFL)
        finally:
            signal.signal(signal.SIGHUP, before)


def test_an_interruption_that_a_library_ignored_still_stops_the_run():
    from frcnn_cli.cli.common.interrupt import StopOnSignal

    before = signal.getsignal(signal.SIGINT)
    stopping = StopOnSignal(Path("run"))
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
    with stopping as should_stop:
        assert should_stop()
    assert signal.getsignal(signal.SIGINT) == before
