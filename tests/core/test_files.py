"""Paths that are not files, and files that are written whole."""

import os
import subprocess
import sys

import pytest

from frcnn_cli.core.errors import DataError, FrcnnError
from frcnn_cli.core.files import check_regular


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
        ("data convert {} --images . --to voc -o out", "t.csv", "is not a folder"),
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
