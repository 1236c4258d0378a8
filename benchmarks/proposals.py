"""Our selective search against OpenCV's: time, and what the boxes are worth, in one run on the same images.

    python benchmarks/proposals.py DATA [--splits test,trainval] [--modes fast,quality] [--sets photograph,coco64,bccd]

DATA holds coco64/ (64 photographs of COCO), bccd/ (BCCD in VOC layout) and proposals/000004.jpg with 000004_boxes.mat
(a VOC photograph and the boxes that selective search's authors published for it). Both searches run on one thread, each
image in turn through one and then the other, both warmed up. Boxes under 20 pixels are dropped, and so are objects of
COCO under 20 pixels. Each row of figures is for a number of boxes; of each image, both keep as many as the one that has
fewer. The objects of the photograph are the published boxes.

Times are medians over the images. OpenCV's quality mode makes it half an hour for both splits.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

os.environ["NUMBA_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import cv2
import numpy as np

from frcnn_cli import Image, __version__, read_image
from frcnn_cli.core.annotations import GroundTruth
from frcnn_cli.core.convention import Convention
from frcnn_cli.data.load import load_dataset
from frcnn_cli.proposals.box_files.reading import read_box_file
from frcnn_cli.proposals.propose import Limits, propose
from frcnn_cli.proposals.recall import cover
from frcnn_cli.proposals.sources.opencv import OpenCVSelectiveSearch
from frcnn_cli.proposals.sources.selective_search import SelectiveSearch

COUNTS = (100, 300, 1000, 2000)  # boxes per image

Item = tuple[Image, GroundTruth]


def bccd(data: Path, split: str) -> Iterable[Item]:
    for sample in load_dataset(f"voc:{data / 'bccd'}", split, "fix").samples:
        yield read_image(sample.ref.path), sample.truth


def coco64(data: Path) -> Iterable[Item]:
    folder = data / "coco64"
    for sample in load_dataset(f"coco:{folder / 'instances.json'}:{folder / 'images'}").samples:
        truth = sample.truth
        large = (truth.boxes[:, 2:] - truth.boxes[:, :2] >= Limits().min_size).all(axis=1)
        boxes, labels, difficult = truth.boxes[large], truth.labels[large], truth.difficult[large]
        yield read_image(sample.ref.path), GroundTruth(boxes, labels, difficult)


def photograph(data: Path) -> Iterable[Item]:
    image = read_image(data / "proposals" / "000004.jpg")
    rows = read_box_file(data / "proposals" / "000004_boxes.mat").read(0)
    boxes = Convention(inclusive=True).to_boxes(rows, image.width, image.height).astype(np.float32)
    boxes = boxes[(boxes[:, 2:] - boxes[:, :2] >= Limits().min_size).all(axis=1)]
    yield from [(image, GroundTruth(boxes, np.zeros(len(boxes), np.int64)))]


def compare(name: str, items: Iterable[Item], mode: str, repeats: int, progress: bool) -> None:
    ours, theirs = SelectiveSearch(preset=mode), OpenCVSelectiveSearch(mode=mode)
    seconds: dict[str, list[float]] = {"ours": [], "OpenCV": []}
    found: list[tuple[dict[str, np.ndarray], GroundTruth]] = []
    for number, (image, truth) in enumerate(items, 1):
        boxes = {}
        for who, source in (("ours", ours), ("OpenCV", theirs)):
            runs = []
            for _ in range(repeats):
                began = time.perf_counter()
                boxes[who] = propose(image, source).boxes
                runs.append(time.perf_counter() - began)
            seconds[who].append(statistics.median(runs))
        fewer = min(map(len, boxes.values()))
        found.append(({who: some[:fewer] for who, some in boxes.items()}, truth))
        if progress:
            print(f"\r{name} {mode}: {number} images", end="", file=sys.stderr, flush=True)
    if progress:
        print("\r" + " " * 60 + "\r", end="", file=sys.stderr)
    medians = {who: statistics.median(times) for who, times in seconds.items()}
    faster = f"{medians['OpenCV'] / medians['ours']:.1f} x"
    print(
        f"| {name} | {mode} | {1000 * medians['ours']:.0f} | {1000 * medians['OpenCV']:.0f} | {faster} |||||||",
        flush=True,
    )
    figures = {who: cover([(boxes[who], truth) for boxes, truth in found], COUNTS).figures() for who in seconds}
    for ours_at, theirs_at in zip(figures["ours"], figures["OpenCV"], strict=True):
        pairs = " | ".join(
            f"{getattr(ours_at, figure):.3f} {getattr(ours_at, figure) - getattr(theirs_at, figure):+.3f}"
            for figure in ("recall_50", "recall_70", "average_recall", "average_best_overlap")
        )
        print(f"| | | | | | {ours_at.count} | {ours_at.mean_boxes:.0f} | {pairs} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--splits", default="test,trainval")
    parser.add_argument("--modes", default="fast,quality")
    parser.add_argument("--sets", default="photograph,coco64,bccd")
    parser.add_argument("--limit", type=int, default=None, help="only the first images of each set")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    SelectiveSearch().prepare()
    warm = Image.from_array(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    OpenCVSelectiveSearch().propose(warm)
    print(f"frcnn {__version__}, OpenCV {cv2.__version__}, {processor()}, one thread\n")
    print("Figures of ours, and the difference to OpenCV's.\n")
    print("| images | mode | ours, ms | OpenCV, ms | ratio | best | boxes | recall 0.5 | recall 0.7 | AR | overlap |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    progress = sys.stderr.isatty()
    for mode in args.modes.split(","):
        if "photograph" in args.sets:
            compare("VOC 000004", photograph(args.data), mode, 5, progress)
        if "coco64" in args.sets:
            compare("coco64", islice(coco64(args.data), args.limit), mode, 1, progress)
        for split in args.splits.split(",") if "bccd" in args.sets else ():
            compare(f"BCCD {split}", islice(bccd(args.data, split), args.limit), mode, 1, progress)


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
