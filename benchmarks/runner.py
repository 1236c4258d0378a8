"""How the runner scales, and how much memory it takes.

    python benchmarks/runner.py DATA [--count 20000]

First the throughput of `propose_many` on the BCCD trainval images (DATA/bccd) with 1 worker and with one a core, from
the first image done to the last; the peer of N workers is N times one worker. Then `frcnn proposals` on COUNT small
images, made for it, and the most memory that the command and its workers together had resident (Linux).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from frcnn_cli.core.decoding import read_ref
from frcnn_cli.data.load import load_image_refs
from frcnn_cli.proposals.sources.selective_search import SelectiveSearch
from frcnn_cli.proposals.workers import propose_many


def throughput(data: Path, workers: int, limit: int | None) -> float:
    """Images a second."""
    refs = load_image_refs(f"voc:{data / 'bccd'}", "trainval")[:limit]
    began, done = 0.0, 0
    for outcome in propose_many(refs, SelectiveSearch(), read_ref, workers=workers):
        assert outcome.error is None
        if done < workers:  # each worker's first image is a warm-up
            began = time.perf_counter()
        done += 1
    return (done - workers) / (time.perf_counter() - began)


def resident(pid: int) -> int:
    """Bytes that a process and its children hold; pages that they share count for each."""
    total = 0
    for process in [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]:
        total += int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return total


def memory(count: int, workers: int) -> None:
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        images.mkdir()
        for i in range(count):
            coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            Pillow.fromarray(coarse.repeat(8, 0).repeat(8, 1)).save(images / f"{i:06d}.jpg", quality=80)
        line = [sys.executable, "-m", "frcnn_cli", "proposals", str(images), "-o", str(Path(folder) / "p.h5"), "-q"]
        began = time.perf_counter()
        process = subprocess.Popen([*line, "--workers", str(workers)])
        most, early = 0, 0
        while process.poll() is None:
            try:
                most = max(most, resident(process.pid))
            except (FileNotFoundError, ProcessLookupError):
                continue
            if time.perf_counter() - began < 15:
                early = most
            time.sleep(0.05)
        seconds = time.perf_counter() - began
        size = (Path(folder) / "p.h5").stat().st_size
        assert process.returncode == 0
    print(
        f"{count} images of 64 x 48, {workers} workers: {seconds:.0f} s, {count / seconds:.0f} images/s,"
        f" at most {most / 1e6:.0f} MB resident ({early / 1e6:.0f} in the first 15 s), a file of {size / 1e6:.0f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--limit", type=int, default=None, help="only the first images of BCCD")
    args = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    SelectiveSearch().prepare()
    one, many = (throughput(args.data, workers, args.limit) for workers in (1, cores))
    share = many / one / cores
    print(f"1 worker {one:.1f} images/s, {cores} workers {many:.1f} images/s: {share:.2f} of {cores} times one")
    memory(args.count, cores)


if __name__ == "__main__":
    main()
