"""Folders that are written whole or not at all, also where they exist already."""

import subprocess
import sys
from pathlib import Path

import pytest

from frcnn_cli.core.errors import FrcnnError
from frcnn_cli.system.folders import is_empty, new_folder, temporary_folder


def fill(path):
    with new_folder(path) as folder:
        (folder / "deep").mkdir()
        (folder / "deep/a").write_text("a")
        (folder / "b").write_text("b")


def content(path):
    return sorted(str(p.relative_to(path)) for p in path.rglob("*"))


@pytest.mark.parametrize("kind", ["new", "empty", "link", "current"])
def test_it_is_written_whole(tmp_path, monkeypatch, kind):
    path = tmp_path / "out"
    if kind != "new":
        (tmp_path / "real").mkdir()
    if kind == "link":
        path.symlink_to(tmp_path / "real")
    elif kind != "new":
        (tmp_path / "real").rename(path)
    monkeypatch.chdir(path if kind == "current" else tmp_path)
    fill(path if kind != "current" else type(path)("."))
    assert content(path) == ["b", "deep", "deep/a"]
    assert path.is_symlink() == (kind == "link")
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".frcnn")]


def test_or_not_at_all(tmp_path):
    for path in (tmp_path / "new", tmp_path):
        with pytest.raises(FrcnnError, match="no space left"), new_folder(path) as folder:
            (folder / "a").write_text("a")
            raise OSError(28, "No space left on device")
        assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_deleted_and_that_of_a_living_one_is_not(tmp_path):
    code = (
        "import sys; from pathlib import Path; from frcnn_cli.system.folders import temporary_folder\n"
        "with temporary_folder(Path(sys.argv[1])) as made: print(made, flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code, tmp_path], **pipes) as other:
        made = Path(other.stdout.readline().strip())
        with temporary_folder(tmp_path):
            assert made.is_dir()
        other.kill()
    assert made.is_dir()
    assert is_empty(tmp_path)
    with temporary_folder(tmp_path):
        assert not made.is_dir()
    assert list(tmp_path.iterdir()) == []
