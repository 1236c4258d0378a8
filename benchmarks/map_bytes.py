"""What each way to store conv maps costs: bytes per image, and mAP with the head as it was trained.

    python benchmarks/map_bytes.py voc:DATA/bccd --split test --model RUN --props PROPS.h5

Every row is `frcnn features`, `score`, `nms` and `eval` on the same images and proposals; only --dtype and --pca
differ.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from frcnn_cli.data.load import load_dataset
from frcnn_cli.data.pairing import pair_detections
from frcnn_cli.detector.detector import Detector
from frcnn_cli.evaluation.voc import evaluate
from frcnn_cli.inference.features import extract_features
from frcnn_cli.inference.nms import suppress
from frcnn_cli.inference.score import score_proposals
from frcnn_cli.store.schema import FEATURES
from frcnn_cli.store.stage import open_stage

CODINGS = (
    ("float32", None), ("float16", None), ("int8", None),
    ("int8", 128), ("int8", 54), ("int8", 32), ("int4", 128), ("int4", 96), ("int4", 64), ("int4", 48),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--split", default="test")
    parser.add_argument("--model", required=True)
    parser.add_argument("--props", required=True)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    dataset = load_dataset(chosen.data, chosen.split, bad_boxes="fix")
    detector = Detector.load(chosen.model, "cpu")
    rows = []
    for dtype, pca in CODINGS:
        with tempfile.TemporaryDirectory() as folder:
            feats, scores, dets = (Path(folder, f"{name}.h5") for name in ("feats", "scores", "dets"))
            extract_features(dataset, detector, feats, dtype=dtype, pca=pca)
            score_proposals(feats, chosen.props, detector, scores)
            suppress(scores, dets)
            with open_stage(feats, FEATURES) as file:
                size = sum(
                    file.column_shapes[name][1][0] * file.read(0, (name,))[name][0].nbytes
                    for name in ("maps", "steps") if name in file.column_shapes
                )  # fmt: skip
                images = len(file)
            paired = pair_detections(dataset, dets)
            mean_ap = evaluate(paired.detections, paired.dataset).mean_ap
        rows.append({"dtype": dtype, "pca": pca, "bytes_per_image": round(size / images), "map": round(mean_ap, 4)})
        print(f"{dtype:8} {pca or '-':>5} {size / images / 1000:8.1f} kB  mAP {mean_ap:.4f}", flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
