"""What differs between systems: each module or call that another system lacks is taken away."""

import os
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
