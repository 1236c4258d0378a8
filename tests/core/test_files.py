"""Paths that are not files, and files that are written whole."""

import os
import subprocess
import sys

import pytest

from frcnn_cli.core.errors import DataError, FrcnnError, explain_missing_library
from frcnn_cli.core.files import check_regular, new_temporary, open_own, remove_temporaries, write_atomic


@pytest.fixture
def pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_devices_and_pipes_are_refused_by_kind(pipe, tmp_path):
    from pathlib import Path

    for path in (Path("/dev/zero"), pipe):
        with pytest.raises(DataError, match="is a device or a pipe, not a file"):
            check_regular(path, DataError)
    for path in (tmp_path, tmp_path / "missing", Path("a\0b")):
        assert check_regular(path) == path


_KIND = "is a device or a pipe, not a file"


# Reading any of these would wait forever for somebody to write, or take all memory.
@pytest.mark.parametrize("special", ["pipe", "/dev/zero"])
@pytest.mark.parametrize(
    ("line", "name", "words"),
    [
        ("proposals {} -o p.h5 --workers 0", "a.jpg", _KIND),
        ("proposals @{} -o p.h5", "list.txt", _KIND),
        ("proposals coco:{}:. -o p.h5", "instances.json", _KIND),
        ("proposals img.png --source file --set path={} -o p.h5", "b.csv", _KIND),
        ("detect img.png --model {}", "m.safetensors", _KIND),
        ("features img.png --backbone alexnet --weights {} -o f.h5", "w.pth", _KIND),
        ("inspect {}", "x.h5", _KIND),
        ("nms {} -o d.h5", "x.h5", _KIND),
        ("recall {} --data voc:none", "x.h5", _KIND),
        ("train --data voc:none --props {}", "x.h5", _KIND),
        *(
            ("import {} --data img.png -o p.h5", f"b.{kind}", _KIND)
            for kind in ("csv", "json", "pkl", "mat", "npz", "h5")
        ),
        ("recipes show {}", "r.toml", "there is no recipe"),
        ("data convert {} --images . --to voc -o out", "t.csv", "device or a pipe"),
    ],
)
def test_commands_do_not_wait_for_them(tmp_path, pipe, special, line, name, words):
    from PIL import Image

    Image.new("RGB", (40, 40)).save(tmp_path / "img.png")
    (tmp_path / name).symlink_to(pipe if special == "pipe" else special)
    command = [sys.executable, "-m", "frcnn_cli", *line.format(name).split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert words in done.stderr


def test_the_error_is_one_that_commands_print():
    from pathlib import Path

    with pytest.raises(FrcnnError, match="Write its content to a file"):
        check_regular(Path("/dev/null"))


# Temporary files.


def test_a_file_that_has_the_name_of_a_temporary_file_is_kept(tmp_path):
    path, other = tmp_path / "a.txt", tmp_path / ".a.txt.tmp"
    other.write_text("mine")
    target = tmp_path / "target"
    target.write_text("mine")
    (tmp_path / ".a.txt.x.frcnn-tmp").symlink_to(target)
    write_atomic(path, b"new")
    remove_temporaries(path)
    assert (path.read_bytes(), other.read_text(), target.read_text()) == (b"new", "mine", "mine")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".a.txt.tmp", ".a.txt.x.frcnn-tmp", "a.txt", "target"]


def test_what_a_killed_process_left_is_removed(tmp_path):
    path = tmp_path / "a.txt"
    left, other = new_temporary(path), new_temporary(tmp_path / "b.txt")
    assert left != new_temporary(path)
    remove_temporaries(path)
    assert list(tmp_path.iterdir()) == [other]


def test_new_files_have_the_usual_permissions(tmp_path):
    write_atomic(tmp_path / "a", b"")
    (tmp_path / "b").write_bytes(b"")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_own_files_are_not_opened_through_links(tmp_path):
    target = tmp_path / "target"
    target.write_text("mine")
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(OSError, match=r"[Ll]ink"):
        open_own(tmp_path / "link")


def test_names_so_long_that_a_longer_one_is_not_allowed(tmp_path):
    path = tmp_path / ("あ" * 82 + ".h5")
    write_atomic(path, b"content")
    left = new_temporary(path)
    remove_temporaries(path)
    assert not left.exists()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("libGL.so.1: cannot open shared object file: No such file or directory", "apt install libgl1"),
        ("libgthread-2.0.so.0: cannot open shared object file: No such file", "headless"),
        ("libcudart.so.12: cannot open shared object file: No such file", "package of the system that has libcudart"),
        ("No module named 'my_plugin.sources'", None),
        ("/usr/lib/foo.so: undefined symbol: bar", None),
    ],
)
def test_missing_system_libraries(message, words):
    found = explain_missing_library(ImportError(message))
    assert found is None if words is None else words in found.fix
    assert explain_missing_library(OSError(message)) is None
