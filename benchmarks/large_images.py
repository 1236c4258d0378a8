"""Selective search of large images: time a pixel, and memory.

    python benchmarks/large_images.py DATA

The photograph DATA/proposals/000004.jpg, enlarged to several sizes, each searched in a process of its own on one
thread: as it is by default (scaled down to a megapixel), and in full. There is no peer: OpenCV's takes minutes.
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
cv2.setNumThreads(1)
from frcnn_cli import Image, read_image
from frcnn_cli.proposals.sources.selective_search import SelectiveSearch

photo, width, height, max_pixels = sys.argv[1], *map(int, sys.argv[2:])
pixels = cv2.resize(read_image(photo).pixels, (width, height), interpolation=cv2.INTER_CUBIC)
image, source = Image.from_array(pixels), SelectiveSearch(max_pixels=max_pixels)
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
    for width, height in SIZES[: args.sizes]:
        for max_pixels in (1_000_000, 0):
            words = map(str, (args.data / "proposals" / "000004.jpg", width, height, max_pixels))
            line = [sys.executable, "-c", ONE, *words]
            seconds, boxes, peak = json.loads(subprocess.run(line, capture_output=True, check=True).stdout)
            each = 1e6 * seconds / (width * height)
            print(
                f"| {width} x {height} | {max_pixels} | {seconds:.2f} | {each:.2f} | {boxes} | {peak / 1e6:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
