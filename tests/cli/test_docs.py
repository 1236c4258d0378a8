"""Tests that fail when a command or an option is not documented."""

import subprocess
import sys

import click
import pytest

from frcnn_cli.cli import COMMANDS, main
from tests.conftest import ROOT, run_frcnn

README = (ROOT / "README.md").read_text()


def command(name):
    return main.get_command(click.Context(main), name)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_and_every_option_a_meaning(name):
    ran = run_frcnn(name, "--help")
    assert ran.code == 0
    assert f"\n  frcnn {name}" in ran.out
    options = [p for p in command(name).params if isinstance(p, click.Option)]
    assert all(option.help for option in options), [option.name for option in options if not option.help]
    assert {"quiet", "debug"} <= {option.name for option in options}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_readme_names_every_command(name):
    assert f"frcnn {name}" in README


def test_help_is_light():
    """Neither --help nor --version imports what is heavy."""
    for argument in ("--help", "--version"):
        code = (
            "import sys\nfrom frcnn_cli.cli import main\n"
            f"main(['{argument}'], standalone_mode=False)\n"
            "heavy = {'torch', 'torchvision', 'cv2', 'numpy', 'h5py', 'rich', 'PIL'} & set(sys.modules)\n"
            "assert not heavy, heavy"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_stages_without_a_network_do_not_import_torch(tmp_path, photo):
    code = (
        "import sys\nfrom frcnn_cli.cli import main\n"
        f"line = ['proposals', {str(photo)!r}, '-o', {str(tmp_path / 'p.h5')!r}, '--workers', '1']\n"
        "main(line, standalone_mode=False)\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_readme_names_every_plugin_and_example():
    for path in (*(ROOT / "plugins").iterdir(), *(ROOT / "examples").iterdir()):
        if not path.name.startswith((".", "__")):
            assert path.name in README, path


def test_usage_errors_are_2():
    for arguments in (("proposals",), ("nope",), ("train",), ("nms", "x.h5", "-o", "y.h5", "--iou", "2")):
        ran = run_frcnn(*arguments)
        assert ran.code == 2
        assert "Traceback" not in ran.err


def test_the_choices_of_train_are_the_backbones_there_are():
    from frcnn_cli.features.backbones import BACKBONES

    (option,) = [p for p in command("train").params if p.name == "backbone"]
    assert list(option.type.choices) == list(BACKBONES)
