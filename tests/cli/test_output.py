"""What is printed, whatever names come from files, and whatever standard output is."""

import os
import subprocess
import sys

import pytest

from frcnn_cli.cli.common.console import Console, printable
from tests.conftest import run_frcnn


def test_control_characters_are_written_as_escapes():
    assert printable("a\x1b[31mb\x9b0m\x07\x7f\r") == r"a\x1b[31mb\x9b0m\x07\x7f\x0d"
    assert printable("über\tzwei\nZeilen 猫 [red]") == "über\tzwei\nZeilen 猫 [red]"
    assert printable("\ud800") == r"\ud800"


NAMES = ["\\[/]", "[/red]", "[bold]x", "a\x1b]0;title\x07b", "c\x9b31m", "two\nlines", "\ud800"]


@pytest.mark.parametrize("name", NAMES)
def test_names_reach_tables_notes_and_bars_as_text(capsys, name):
    console = Console()
    console.table(("name", name), [(name, "1")], title=name)
    console.note(name)
    console.warn(name)
    console.result(name)
    with console.task(name, 1) as bar:
        bar.advance()
    captured = capsys.readouterr()
    assert not {"\x1b", "\x9b", "\x07"} & set(captured.out + captured.err)
    assert printable(name.split("\n")[0]) in captured.out


def test_a_bar_on_a_terminal_takes_names_as_text(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    console = Console()
    for name in NAMES:
        with console.task(name, 2) as bar:
            bar.say(name.replace("\ud800", ""))
            bar.advance()


def test_class_names_of_others_are_displayed_as_text(tmp_path, photo):
    folder = tmp_path / "voc"
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    (folder / "JPEGImages/a.png").write_bytes(photo.read_bytes())
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>20</xmax><ymax>20</ymax></bndbox>"
    objects = "".join(f"<object><name>{name}</name>{box}</object>" for name in (r"\[/]", "[red]", "x&#155;1m"))
    (folder / "Annotations/a.xml").write_text(f"<annotation>{objects}</annotation>")
    (folder / "ImageSets/Main/trainval.txt").write_text("a\n")
    props = tmp_path / "p.h5"
    assert run_frcnn("proposals", f"voc:{folder}", "-o", props, "--workers", 0).code == 0
    ran = run_frcnn("recall", props, "--data", f"voc:{folder}", "--by", "class")
    assert ran.code == 0, ran.err
    assert r"\[/]" in ran.out
    assert "[red]" in ran.out
    assert r"x\x9b1m" in ran.out
    assert "\x9b" not in ran.out


@pytest.mark.parametrize(
    ("line", "code", "what"),
    [
        (["inspect", "none.h5"], 1, "no such file or folder (none.h5)"),
        (["proposals", "a.png", "-o", "p.h5", "--source", "nosuch"], 2, "there is no proposal source"),
    ],
)
def test_errors_as_json(tmp_path, photo, line, code, what):
    (tmp_path / "a.png").write_bytes(photo.read_bytes())
    ran = run_frcnn(*line, "--json", cwd=tmp_path)
    assert ran.code == code
    assert set(ran.json["error"]) == {"what", "fix"}
    assert what in ran.json["error"]["what"]
    assert ran.json["error"]["fix"]
    assert ran.err.startswith("error: ")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/dev/full is Linux's")
@pytest.mark.parametrize("line", ["--help", "proposals --help", "recipes show paper", "plugins"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_standard_output_that_is_full_or_closed(line, unbuffered):
    command = [sys.executable, "-m", "frcnn_cli", *line.split()]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    closed = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *command], stderr=subprocess.PIPE, text=True)
    assert "Traceback" not in closed.stderr
    assert closed.returncode in (0, 1)


def test_a_null_character_in_a_recipe(tmp_path):
    (tmp_path / "r.toml").write_text('base = "\\u0000"\n')
    ran = run_frcnn("recipes", "show", tmp_path / "r.toml")
    assert ran.code in (1, 2)
    assert "null character" in ran.err
