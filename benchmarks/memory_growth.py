"""Memory of long runs on images of many sizes.

    python benchmarks/memory_growth.py DATA [--iterations 2000] [--sizes 200] [--only PARTS]

Runs the commands on photographs of BCCD (DATA/bccd) that are scaled to that many sizes, and prints the resident memory
of the command after 50 iterations or images and at the end. DATA also holds weights/squeezenet1_0_tv.pth.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

OBJECT = (
    "<object><name>cell</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)
EARLY = 50  # iterations or images, by the share of the time since the work began


def photographs(data: Path, folder: Path, sizes: int, count: int) -> None:
    """A data set in VOC layout: `count` photographs of `sizes` different sizes, with objects anywhere."""
    rng = np.random.default_rng(0)
    originals = [cv2.imread(str(path)) for path in sorted((data / "bccd/JPEGImages").glob("*.jpg"))[:40]]
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    for i in range(count):
        width, height = 240 + (i % sizes) * 37 % 230, 180 + (i % sizes) * 53 % 170
        cv2.imwrite(str(folder / f"JPEGImages/{i:05d}.jpg"), cv2.resize(originals[i % 40], (width, height)))
        corners = zip(rng.integers(1, width - 70, 5), rng.integers(1, height - 70, 5), strict=True)
        objects = "".join(OBJECT.format(x, y, x + 60, y + 60) for x, y in corners)
        (folder / f"Annotations/{i:05d}.xml").write_text(f"<annotation>{objects}</annotation>")
    (folder / "ImageSets/Main/trainval.txt").write_text("\n".join(f"{i:05d}" for i in range(count)))


def resident(process: subprocess.Popen[bytes]) -> float:
    """Megabytes."""
    try:
        return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * 4096 / 1e6
    except OSError:
        return 0.0


def measure(name: str, words: list[str], total: int) -> None:
    """Runs a command on `total` iterations or images, and prints a row."""
    output = Path(words[words.index("-o") + 1])
    signs = [output / "log.jsonl", output.with_name(output.name + ".partial")]  # files of finished work
    process = subprocess.Popen([sys.executable, "-m", "frcnn_cli", *words, "-q"], stdout=subprocess.DEVNULL)
    samples: list[tuple[float, float]] = []
    began = None
    while process.poll() is None:
        if began is None and any(sign.exists() and sign.stat().st_size > 1000 for sign in signs):
            began = time.perf_counter()
        if began is not None:
            samples.append((time.perf_counter() - began, resident(process)))
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"frcnn {' '.join(words)} failed")
    work = samples[-1][0]
    early = next(memory for at, memory in samples if at >= work * EARLY / total)
    last = max(memory for at, memory in samples if at >= 0.9 * work)
    print(f"| {name} | {early:.0f} MB | {last:.0f} MB | {last / early:.2f} | {total / work:.2f}/s |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--sizes", type=int, default=200)
    parser.add_argument("--only", default="train,cached,detect,features,score")
    args = parser.parse_args()
    weights = str(args.data / "weights/squeezenet1_0_tv.pth")
    network = ["--backbone", "squeezenet1_0", "--weights", weights, "--short-side", "200", "--long-side", "400"]
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        images = f"voc:{folder / 'voc'}"
        props, maps, run = (str(folder / name) for name in ("props.h5", "maps.h5", "run"))
        photographs(args.data, folder / "voc", args.sizes, args.iterations)
        propose = ["proposals", images, "-o", props, "--max-boxes", "300", "--set", "max_pixels=20000", "-q"]
        subprocess.run([sys.executable, "-m", "frcnn_cli", *propose], check=True)
        mirrored = ["features", images, *network, "--mirrored", "-o", maps]

        train = ["train", "--data", images, "--props", props, "--recipe", "modern", *network]
        train += ["--set", "network.fine=false"]
        train += ["--set", f"solver.iterations={args.iterations}", "--set", "sampling.images=1"]
        print("| command | after 50 | at the end | ratio | per second |\n|---|---|---|---|---|")
        parts = args.only.split(",")
        if "features" in parts or "cached" in parts or "score" in parts:
            measure("features", mirrored, args.iterations)
        if "train" in parts or "detect" in parts:
            measure("train", [*train, "-o", run], args.iterations)
        if "cached" in parts or "score" in parts:
            words = [*train, "--features", maps, "-o", f"{run}-cached"]
            measure("train from cached maps", words, args.iterations)
        if "detect" in parts:
            words = ["detect", images, "--model", run, "-o", str(folder / "dets.h5")]
            measure("detect", words, args.iterations)
        if "score" in parts:
            words = ["score", maps, "--props", props, "--model", f"{run}-cached", "-o", str(folder / "scores.h5")]
            measure("score", words, args.iterations)


if __name__ == "__main__":
    main()
