"""Tests that fail when a command or an option is not documented."""

import itertools
import re
import shlex
import subprocess
import sys

import click
import pytest

from frcnn_cli.cli import COMMANDS, main
from frcnn_cli.proposals.registry import load_registry
from tests.conftest import ROOT, run_frcnn

README = (ROOT / "README.md").read_text()


def command(name):
    """Of a name, or of a group and a name below it."""
    found = main
    for word in name.split():
        found = found.get_command(click.Context(found), word)
    return found


def all_commands():
    for name in COMMANDS:
        below = command(name).list_commands(None) if isinstance(command(name), click.Group) else []
        yield from (f"{name} {word}" for word in below)
        if not below:
            yield name


@pytest.mark.parametrize("name", list(all_commands()))
def test_every_command_has_an_example_and_every_option_a_meaning(name):
    ran = run_frcnn(*name.split(), "--help")
    assert ran.code == 0
    assert f"\n  frcnn {name}" in ran.out
    options = [p for p in command(name).params if isinstance(p, click.Option)]
    assert all(option.help for option in options), [option.name for option in options if not option.help]
    assert {"quiet", "debug"} <= {option.name for option in options}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_readme_names_every_command(name):
    assert f"frcnn {name}" in README


def assert_not_imported(line, heavy):
    """Runs a command in a new process, which must end without these modules."""
    code = (
        "import sys\nfrom frcnn_cli.cli import main\n"
        f"main({[str(word) for word in line]!r}, standalone_mode=False)\n"
        f"found = {heavy!r} & set(sys.modules)\nassert not found, found"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_is_light(argument):
    assert_not_imported([argument], {"torch", "torchvision", "cv2", "numpy", "h5py", "rich", "PIL"})


def test_stages_without_a_network_do_not_import_torch(tmp_path, photo):
    assert_not_imported(["proposals", photo, "-o", tmp_path / "p.h5", "--workers", 0], {"torch"})


def test_the_documentation_names_every_plugin_and_example():
    pages = README + "".join(page.read_text() for page in (ROOT / "docs").rglob("*.md"))
    for path in (*(ROOT / "plugins").iterdir(), *(ROOT / "examples").iterdir()):
        if not path.name.startswith((".", "__")):
            assert path.name in pages, path


def test_usage_errors_are_2():
    for arguments in (("proposals",), ("nope",), ("train",), ("nms", "x.h5", "-o", "y.h5", "--iou", "2")):
        ran = run_frcnn(*arguments)
        assert ran.code == 2
        assert "Traceback" not in ran.err


def test_the_choices_of_train_are_the_backbones_there_are():
    from frcnn_cli.features.backbones import BACKBONES

    (option,) = [p for p in command("train").params if "--backbone" in p.opts]
    assert list(option.type.choices) == list(BACKBONES)


def test_the_settings_in_examples_are_those_of_their_source():
    """`--set` in a --help example and in the README is an option that the source has, with a value that it takes."""
    texts = [README, *(command(name).help for name in COMMANDS)]
    lines = [line for text in texts for line in re.findall(r"frcnn (?:proposals|detect) [^\n`|]*--set [^\n`|]*", text)]
    assert len(lines) >= 3
    for line in lines:
        words = shlex.split(line, comments=True)
        pairs = list(itertools.pairwise(words))
        names = [value for word, value in pairs if word == "--source"] or ["selective-search"]
        for setting in [value for word, value in pairs if word == "--set"]:
            key, _, value = setting.partition("=")
            source, _, option = key.rpartition(".")
            if option != "path" and (source or names[0]) in load_registry().sources:
                load_registry().configured(source or names[0], {option: value})
