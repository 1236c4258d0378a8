"""Many images from each kind of storage: the memory of the driver, and whether writing keeps up.

    python benchmarks/many_images.py [--count 20000] [--only imports,files,tar,parquet,s3,cluster,features,writing]

Each row is one command on COUNT photographs of 64 x 48 pixels. "Driver" is the most memory that the command itself had
resident; its worker processes are not counted. s3 is a local server of the S3 protocol (moto), in the process of this
script. The last rows write made-up results without computing anything: no stage that computes fewer images per second
waits for the writer.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from frcnn_cli.core.image import ImageRecord
from frcnn_cli.store.schema import FEATURES, PROPOSALS
from frcnn_cli.store.writer import StageWriter

PER_ARCHIVE = 1000
BUCKET = "many"


def pictures(count: int) -> Iterator[tuple[str, bytes]]:
    rng = np.random.default_rng(0)
    for i in range(count):
        encoded = io.BytesIO()
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Pillow.fromarray(coarse.repeat(8, 0).repeat(8, 1)).save(encoded, "JPEG", quality=80)
        yield f"{i:06d}.jpg", encoded.getvalue()


def files(folder: Path, count: int) -> str:
    for name, content in pictures(count):
        (folder / name).write_bytes(content)
    return str(folder)


def tar(folder: Path, count: int) -> str:
    every = pictures(count)
    for shard in range(-(-count // PER_ARCHIVE)):
        with tarfile.open(folder / f"{shard:04d}.tar", "w") as archive:
            for _, (name, content) in zip(range(PER_ARCHIVE), every, strict=False):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return f"tar:{folder}/*.tar"


def parquet(folder: Path, count: int) -> str:
    import pyarrow
    import pyarrow.parquet as tables

    names, contents = zip(*pictures(count), strict=True)
    table = pyarrow.table({"key": names, "image": contents})
    tables.write_table(table, folder / "many.parquet", row_group_size=500)
    return str(folder / "many.parquet")


def s3(folder: Path, count: int) -> str:
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # which prints every request
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1", "NO_PROXY": "127.0.0.1",
    }  # fmt: skip
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    for name, content in pictures(count):
        client.put_object(Bucket=BUCKET, Key=f"images/{name}", Body=content)
    return f"s3://{BUCKET}/images"


def resident(pid: int) -> int:
    """Bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(name: str, count: int, words: list[str]) -> None:
    began, most = time.perf_counter(), 0
    process = subprocess.Popen([sys.executable, "-m", "frcnn_cli", *words, "-q"])
    while process.poll() is None:
        try:
            most = max(most, resident(process.pid))
        except (FileNotFoundError, ProcessLookupError):
            continue
        time.sleep(0.05)
    seconds = time.perf_counter() - began
    assert process.returncode == 0, name
    print(
        f"{name:22} {count:6d} images  {count / seconds:6.0f} images/s  driver at most {most / 1e6:5.0f} MB", flush=True
    )


def writing(name: str, count: int, columns: Callable[[int], dict[str, np.ndarray]], fmt: object, made: dict) -> None:
    with tempfile.TemporaryDirectory() as folder:
        examples = [columns(i) for i in range(8)]
        began = time.perf_counter()
        with StageWriter(Path(folder, "x.h5"), fmt, made) as out:
            for i in range(count):
                out.add(ImageRecord(f"{i:06d}.jpg", 480, 640, f"{i:032x}"), examples[i % 8])
            out.finish()
        seconds = time.perf_counter() - began
        size = Path(folder, "x.h5").stat().st_size
    print(
        f"writing {name:14} {count:6d} images  {count / seconds:6.0f} images/s  {size / seconds / 1e6:5.0f} MB/s",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--only", default="imports,files,tar,parquet,s3,cluster,features,writing")
    args = parser.parse_args()
    chosen = args.only.split(",")
    if "imports" in chosen:
        measured = subprocess.run(
            [sys.executable, "-c", "import resource, torch, numba, cv2;"
             "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"], capture_output=True, text=True, check=True,
        )  # fmt: skip
        print(f"importing torch, numba and cv2 alone: {int(measured.stdout) / 1e3:.0f} MB", flush=True)
    for make in (files, tar, parquet, s3):
        with tempfile.TemporaryDirectory() as folder:
            wanted = [make.__name__, *(["cluster", "features"] if make is files else [])]
            if not set(wanted) & set(chosen):
                continue
            data = Path(folder, "data")
            data.mkdir()
            spec = make(data, args.count)
            if make.__name__ in chosen:
                measure(f"proposals, {make.__name__}", args.count, ["proposals", spec, "-o", f"{folder}/p.h5"])
            if make is files and "cluster" in chosen:
                words = ["proposals", spec, "-o", f"{folder}/c.h5", "--cluster", "ray"]
                measure("proposals, Ray", args.count, words)
            if make is files and "features" in chosen:
                words = ["features", spec, "-o", f"{folder}/f.h5", "--backbone", "squeezenet1_0"]
                words += ["--weights", "none", "--short-side", "0", "--pca", "96", "--dtype", "int4"]
                measure("features, files", args.count, words)
    if "writing" in chosen:
        rng = np.random.default_rng(0)
        writing(
            "2,000 boxes", 5000,
            lambda i: {"boxes": rng.random((2000, 4), np.float32), "scores": rng.random(2000, np.float32)},
            PROPOSALS, {"source": {}, "max_boxes": 2000, "min_size": 20},
        )  # fmt: skip
        for name, dtype, channels in (("maps, float16", np.float16, 512), ("maps, int4", np.int8, 54)):
            writing(
                name, 2000,
                lambda i, dtype=dtype, channels=channels: {
                    "maps": rng.random((37 * 49, channels), np.float32).astype(dtype),
                    "map_size": np.array([37, 49], np.int32), "scale": np.array(1.25),
                },
                FEATURES, {"features_id": "x", "dtype": str(np.dtype(dtype))},
            )  # fmt: skip


if __name__ == "__main__":
    main()
