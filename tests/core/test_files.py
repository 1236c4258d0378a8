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


# Reading any of these would wait forever for somebody to write, or take all memory.
@pytest.mark.parametrize("special", ["pipe", "/dev/zero"])
@pytest.mark.parametrize(
    "line",
    [
        "proposals {}",
        "proposals @{}",
        "detect {} --model {}",
        "inspect {}",
        "import {} --data img.png -o p.h5",
        "recall {} --data voc:none",
        "nms {} -o d.h5",
        "train --data voc:none --props {}",
        "recipes show {}",
        "features img.png --backbone small --weights {} -o f.h5",
        "data convert {}.csv --images . --to voc -o out",
        "proposals coco:{}:. -o p.h5",
        "proposals img.png --source file --set path={} -o p.h5",
    ],
)
def test_commands_do_not_wait_for_them(tmp_path, pipe, special, line):
    from PIL import Image

    Image.new("RGB", (40, 40)).save(tmp_path / "img.png")
    target = special
    if ".csv" in line:
        os.mkfifo(tmp_path / "table.csv")
        line, target = line.replace("{}.csv", "{}"), "table.csv"
    words = line.format(target, target).split()
    done = subprocess.run(
        [sys.executable, "-m", "frcnn_cli", *words], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr


def test_the_error_is_one_that_commands_print():
    from pathlib import Path

    with pytest.raises(FrcnnError, match="Write its content to a file"):
        check_regular(Path("/dev/null"))
