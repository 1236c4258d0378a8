"""What the commands change for their process, seen from inside it."""

import os
import subprocess
import sys

import pytest

_REPORT = """
import atexit, gc, os
from frcnn_cli.cli import main
main(["inspect", "nothere.h5"], standalone_mode=False)
print("threads", os.environ["OPENBLAS_NUM_THREADS"])
atexit._run_exitfuncs()
print("frozen", gc.get_freeze_count() > 0)
"""


def report(**environment):
    clean = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", _REPORT], capture_output=True, text=True, env=clean | environment)
    return done.stdout


@pytest.mark.parametrize(("environment", "threads"), [({}, "1"), ({"OPENBLAS_NUM_THREADS": "3"}, "3")])
def test_numpy_uses_one_thread_unless_told_otherwise(environment, threads):
    assert f"threads {threads}\n" in report(**environment)


def test_objects_are_not_searched_for_garbage_at_the_end():
    assert "frozen True\n" in report()


def test_the_library_changes_nothing():
    program = "import gc; b = gc.get_threshold(); from frcnn_cli import propose; print(b == gc.get_threshold())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "True\n"
