"""Selective search of large images: time a pixel, and memory.

    python benchmarks/large_images.py DATA

The photograph DATA/proposals/000004.jpg, enlarged to several sizes, each searched in a process of its own on one
thread: as it is by default (scaled down to a megapixel), and in full. There is no peer: OpenCV's takes minutes. The
last row is a crowd: a megapixel with 3,800 spots on one background, which is one region with as many neighbours.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

SIZES = ((500, 375), (1000, 750), (2000, 1500), (4000, 3000))

ONE = """
import json, resource, sys, time
import cv2
import numpy as np
cv2.setNumThreads(1)
from frcnn_cli import Image, read_image
from frcnn_cli.proposals.sources.selective_search import SelectiveSearch

photo, width, height, max_pixels = sys.argv[1], *map(int, sys.argv[2:])
if photo == "crowd":
    random = np.random.default_rng(0)
    pixels = np.full((height, width, 3), 200, np.uint8)
    for y in range(8, height - 8, 16):
        for x in range(8, width - 8, 16):
            place, radius = (x + int(random.integers(-1, 2)), y), int(random.integers(4, 7))
            cv2.circle(pixels, place, radius, random.integers(30, 150, 3).tolist(), -1)
    noise = random.integers(-3, 4, pixels.shape)
    pixels = (pixels + noise).astype(np.uint8)
else:
    pixels = cv2.resize(read_image(photo).pixels, (width, height), interpolation=cv2.INTER_CUBIC)
image, source = Image.from_array(pixels), SelectiveSearch(
    max_pixels=max_pixels, min_region=20 if photo == "crowd" else None
)
source.prepare()
began = time.perf_counter()
boxes = len(source.propose(image).boxes)
seconds = time.perf_counter() - began
print(json.dumps([seconds, boxes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--sizes", type=int, default=len(SIZES), help="how many of the sizes, the smallest first")
    args = parser.parse_args()
    print("| image | max_pixels | s | microseconds a pixel | boxes | peak MB of the process |")
    print("|---|---|---|---|---|---|")
    photo = str(args.data / "proposals" / "000004.jpg")
    searches = [(photo, *size, max_pixels) for size in SIZES[: args.sizes] for max_pixels in (1_000_000, 0)]
    for search in (*searches, ("crowd", 1000, 1000, 0)):
        line = [sys.executable, "-c", ONE, *map(str, search)]
        seconds, boxes, peak = json.loads(subprocess.run(line, capture_output=True, check=True).stdout)
        what, width, height, max_pixels = search
        each = 1e6 * seconds / (width * height)
        title = f"{'crowd, ' if what == 'crowd' else ''}{width} x {height}"
        print(f"| {title} | {max_pixels} | {seconds:.2f} | {each:.2f} | {boxes} | {peak / 1e6:.0f} |", flush=True)


if __name__ == "__main__":
    main()
