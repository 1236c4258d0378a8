"""Every stage on its own: images per second and bytes per image, for `benchmarks/at_scale.py`.

    python benchmarks/stages.py voc:DATA/bccd --split test --model RUN [--json stages.json]

Each stage is the library's function that the command calls, with its start (compiling, loading) outside of the time.
All cores of the machine take part.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from frcnn_cli.data.load import load_image_refs
from frcnn_cli.detector.detector import Detector
from frcnn_cli.inference.detect import run_detection
from frcnn_cli.inference.embed import embed_boxes
from frcnn_cli.inference.features import extract_features
from frcnn_cli.inference.nms import suppress
from frcnn_cli.inference.score import score_proposals
from frcnn_cli.proposals.registry import get_source
from frcnn_cli.proposals.run import propose_images
from frcnn_cli.system.facts import collected, machine
from frcnn_cli.system.processes import usable_cores


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--split", default="test")
    parser.add_argument("--model", required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    refs = load_image_refs(args.data, args.split)
    detector = Detector.load(args.model, args.device)
    source = get_source("selective-search")
    source.prepare()
    rows: list[dict[str, Any]] = []
    size = sum(ref.path.stat().st_size for ref in refs) / len(refs)
    rows.append({"stage": "images as they are", "images_per_s": None, "bytes_per_image": round(size)})
    processor = collected(machine())["processor"]
    print(f"{len(refs)} images of {size / 1000:.0f} kB, {processor}, {usable_cores()} cores")
    with tempfile.TemporaryDirectory() as folder:
        at = {
            name: Path(folder, f"{name}.h5")
            for name in ("props", "feats", "small", "scores", "dets", "more", "vectors", "warm", "vectors-warm")
        }

        def row(stage: str, work: Callable[[], object], output: Path) -> None:
            began = time.perf_counter()
            work()
            rate = len(refs) / (time.perf_counter() - began)
            size = output.stat().st_size / len(refs)
            rows.append({"stage": stage, "images_per_s": round(rate, 2), "bytes_per_image": round(size)})
            print(f"{stage:30} {rate:8.1f} images/s {size / 1000:10.1f} kB per image", flush=True)

        row("proposals", lambda: propose_images(refs, at["props"], source), at["props"])
        extract_features(refs[:2], detector, at["warm"])
        run_detection(refs[:2], detector)
        row("features, float16", lambda: extract_features(refs, detector, at["feats"]), at["feats"])
        few = {"pca": 96, "dtype": "int4"}
        extract_features(refs, detector, at["warm"], force=True, **few)  # its principal components are taken from it
        row(
            "features, --pca 96 int4",
            lambda: extract_features(refs, detector, at["small"], dtype="int4", basis=at["warm"]),
            at["small"],
        )
        row("score", lambda: score_proposals(at["feats"], at["props"], detector, at["scores"]), at["scores"])
        row("nms", lambda: suppress(at["scores"], at["dets"]), at["dets"])
        row(
            "detect, all in memory",
            lambda: run_detection(refs, detector, source=source, output=at["more"]),
            at["more"],
        )
        row("embed, 36 boxes", lambda: embed_boxes(refs, detector, at["vectors"], per_image=(36, 36)), at["vectors"])
    if args.json:
        about = {"processor": processor, "cores": usable_cores(), "device": args.device, "stages": rows}
        args.json.write_text(json.dumps(about, indent=1))


if __name__ == "__main__":
    main()
