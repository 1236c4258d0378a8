"""What differs between systems: each module or call that another system lacks is taken away."""

import os
import subprocess
import sys

import pytest

from frcnn_cli.core.errors import FrcnnError
from frcnn_cli.store.schema import PROPOSALS
from frcnn_cli.store.writer import StageWriter
from frcnn_cli.system.disk import allocate
from frcnn_cli.system.locks import folder_lock
from frcnn_cli.system.memory import keep_freed_memory, system_memory
from tests.conftest import assert_one_line_error, run_frcnn
from tests.store.test_files import BOXES, IMAGES, PROVENANCE, write


def test_space_is_allocated_without_posix_fallocate(tmp_path, monkeypatch):
    """macOS has no such call."""
    for name in ("whole", "plain"):
        if name == "plain":
            monkeypatch.delattr(os, "posix_fallocate")
        with open(tmp_path / name, "w+b") as file:
            file.write(b"kept")
            file.flush()
            allocate(file.fileno(), 2, 3 << 20)
            assert os.fstat(file.fileno()).st_size == (3 << 20) + 2
            file.seek(0)
            assert file.read(6) == b"kept\0\0"


def test_stages_are_written_without_posix_fallocate(tmp_path, monkeypatch):
    whole = write(tmp_path / "a.h5").read_bytes()
    monkeypatch.delattr(os, "posix_fallocate")
    assert write(tmp_path / "b.h5").read_bytes() == whole


def test_without_locks_nothing_is_written(tmp_path, monkeypatch):
    """Windows has no fcntl."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with (
        pytest.raises(FrcnnError, match="no file locks.*WSL"),
        StageWriter(tmp_path / "p.h5", PROPOSALS, PROVENANCE) as out,
    ):
        out.add(IMAGES[0], {"boxes": BOXES[0]})
    with pytest.raises(FrcnnError, match="no file locks"), folder_lock(tmp_path / "run"):
        pass


def test_windows_is_refused_at_the_start(monkeypatch):
    monkeypatch.setattr("frcnn_cli.cli.common.command.is_supported", lambda: False)
    assert_one_line_error(run_frcnn("doctor"), "Linux and macOS", "WSL")


def test_other_c_libraries_and_systems_without_meminfo(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False
    monkeypatch.setattr("pathlib.Path.read_text", lambda path: "nothing")
    assert system_memory() is None


@pytest.fixture
def broken_opencv(tmp_path):
    """An environment in which OpenCV is installed, but a library of the system that it needs is not."""
    package = tmp_path / "packages/cv2"
    package.mkdir(parents=True)
    reason = "libGL.so.1: cannot open shared object file: No such file or directory"
    (package / "__init__.py").write_text(f"raise ImportError({reason!r})")
    return {**os.environ, "PYTHONPATH": str(package.parent)}


def frcnn(*arguments, env):
    command = [sys.executable, "-m", "frcnn_cli", *map(str, arguments)]
    return subprocess.run(command, env=env, capture_output=True, text=True)


def test_without_a_library_that_opencv_needs(broken_opencv, photo, tmp_path):
    """A slim container lacks libGL. What does not need OpenCV works, and the others state what to install."""
    props = ("proposals", photo, "-o", tmp_path / "p.h5", "--workers", 0)
    ran = frcnn(*props, env=broken_opencv)
    assert ran.returncode == 1
    assert "Traceback" not in ran.stderr
    assert "libGL.so.1" in ran.stderr
    assert "apt install libgl1 libglib2.0-0" in ran.stderr
    assert "opencv-contrib-python-headless" in ran.stderr
    assert run_frcnn(*props).code == 0
    for arguments in (("inspect", tmp_path / "p.h5"), ("plugins",), ("recipes", "show", "paper"), ("detect", "--help")):
        assert frcnn(*arguments, env=broken_opencv).returncode == 0, arguments


def test_without_windows_pictures_are_saved(monkeypatch):
    """opencv-contrib-python-headless has no windows: the process that probes for one fails."""
    from frcnn_cli.system import window

    monkeypatch.setenv("DISPLAY", ":0")
    for code, found in ((0, True), (1, False)):
        done = subprocess.CompletedProcess([], code)
        monkeypatch.setattr(window.subprocess, "run", lambda *_, done=done, **__: done)
        assert window.has_display() is found


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    import errno
    import fcntl

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with folder_lock(tmp_path / "run") as alone:
        assert alone
    assert write(tmp_path / "p.h5").exists()
