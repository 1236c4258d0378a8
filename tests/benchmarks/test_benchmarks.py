"""The benchmarks run, on little of their data, and print their tables."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(name, *arguments):
    line = [sys.executable, BENCHMARKS / name, *map(str, arguments)]
    ran = subprocess.run(line, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_proposals(shared_data):
    printed = run("proposals.py", shared_data, "--splits", "test", "--modes", "fast", "--limit", 1)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if line.startswith("| ")]
    speeds = [row for row in rows if row[1] == "fast"]
    assert [row[0] for row in speeds] == ["VOC 000004", "coco64", "BCCD test"]
    assert all(float(row[2]) > 0 and float(row[3]) > 0 and row[4].endswith(" x") for row in speeds)
    figures = [row for row in rows if row[0] == ""]
    assert [row[5] for row in figures] == ["100", "300", "1000", "2000"] * 3
    for row in figures:
        assert 0 < float(row[6]) <= float(row[5])
        assert all(0 <= float(cell.split()[0]) <= 1 and abs(float(cell.split()[1])) <= 1 for cell in row[7:])


def test_runner(shared_data):
    printed = run("runner.py", shared_data, "--count", 20, "--limit", 6)
    assert " times one" in printed
    assert "20 images of 64 x 48" in printed


def test_large_images(shared_data):
    printed = run("large_images.py", shared_data, "--sizes", 1)
    rows = [line.split("|") for line in printed.splitlines() if line.startswith("| 500")]
    assert [row[2].strip() for row in rows] == ["1000000", "0"]
    assert rows[0][5] == rows[1][5], "below a megapixel nothing is scaled"


def test_run(shared_data):
    printed = run("run.py", shared_data, "--quick", "--only", "start,training,files")
    rows = [line.split("|") for line in printed.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 2 + 2 + 1 + 1
    assert all(float(row[2].split()[0]) > 0 and float(row[3]) > 0 and row[4].strip().endswith("x") for row in rows)


def test_evaluation():
    printed = run("evaluation.py", "--images", 20, "--detections", 30)
    values = [row.split("|")[4].split()[-1] for row in printed.splitlines() if "COCO's twelve" in row]
    assert values[0] == values[1], "the same number of both"


def test_accuracy(shared_data):
    printed = run("accuracy.py", shared_data, "--epochs", 0.5, "--seeds", 1, "--images", 2)
    assert len([row for row in printed.splitlines() if row.startswith("| ")]) == 3
