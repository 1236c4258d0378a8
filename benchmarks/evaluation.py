"""A million detections evaluated: VOC's AP by our own code, COCO's numbers by ours, and by pycocotools, in one run.

    python benchmarks/evaluation.py [--images 5000] [--detections 200]

Objects and detections are made up: 7 objects and 200 detections per image, 80 classes, as COCO's val2017 has. The
memory is the most that a process of its own holds, with the detections and the libraries.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from frcnn_cli.core.annotations import Detections, GroundTruth
from frcnn_cli.evaluation.coco import evaluate_coco
from frcnn_cli.evaluation.results import coco_results
from frcnn_cli.evaluation.voc import evaluate

CLASSES = tuple(f"class {i}" for i in range(80))


def made_up(images: int, detections: int) -> tuple[dict[str, Detections], dict[str, GroundTruth]]:
    rng = np.random.default_rng(0)
    found, wanted = {}, {}
    for i in range(images):
        corners = rng.uniform(0, 500, (7, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(10, 200, (7, 2))], axis=1)
        labels = rng.integers(0, len(CLASSES), 7)
        wanted[f"{i:06d}"] = GroundTruth(boxes, labels)
        of = rng.integers(0, 7, detections)
        near = boxes[of] + rng.normal(0, 15, (detections, 4))
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        right = rng.random(detections) < 0.5
        said = np.where(right, labels[of], rng.integers(0, len(CLASSES), detections))
        found[f"{i:06d}"] = Detections(near, np.sort(rng.random(detections))[::-1], said)
    return found, wanted


def instances(
    ground_truth: Mapping[str, GroundTruth], ids: Mapping[str, int], classes: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """The objects in the layout of COCO's instances, for pycocotools; class i is category i + 1."""
    annotations: list[dict[str, Any]] = []
    for key, number in ids.items():
        truth = ground_truth[key]
        for at, (x1, y1, x2, y2) in enumerate(truth.boxes.astype(float).tolist()):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(truth.labels[at]) + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": float(truth.areas[at]),
                    "iscrowd": int(truth.crowd[at] or truth.difficult[at]),
                }
            )
    return {
        "images": [{"id": number, "file_name": key} for key, number in ids.items()],
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in enumerate(classes, 1)],
    }


def pycocotools(found: dict[str, Detections], wanted: dict[str, GroundTruth]) -> float:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    ids = {key: i for i, key in enumerate(sorted(wanted), 1)}
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = instances(wanted, ids, CLASSES)
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(coco_results(found, ids)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


def memory(images: int, detections: int) -> float:
    """Megabytes that a process of its own holds at most while it computes COCO's numbers."""
    line = [sys.executable, __file__, "--images", str(images), "--detections", str(detections), "--memory"]
    return float(subprocess.run(line, capture_output=True, text=True, check=True).stdout)


def most_memory() -> float:
    """Megabytes, the most that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def timed(call: Callable[[], float]) -> tuple[float, float]:
    began = time.perf_counter()
    value = call()
    return value, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=200, help="per image")
    parser.add_argument("--memory", action="store_true", help="print only the memory in MB")
    args = parser.parse_args()
    found, wanted = made_up(args.images, args.detections)
    if args.memory:
        evaluate_coco(found, wanted, CLASSES)
        print(f"{most_memory():.0f}")
        return
    print(f"{sum(map(len, found.values())):,} detections, {args.images:,} images, {len(CLASSES)} classes\n")
    print("| what | seconds | against pycocotools | value |")
    print("|---|---|---|---|")
    value, peer = timed(lambda: pycocotools(found, wanted))
    coco, ours = timed(lambda: evaluate_coco(found, wanted, CLASSES).numbers["AP"])
    area, voc = timed(lambda: evaluate(found, wanted, CLASSES).mean_ap)
    print(f"| COCO's twelve numbers, pycocotools | {peer:.1f} | | AP {value:.6f} |")
    print(f"| COCO's twelve numbers, frcnn eval --coco | {ours:.2f} | {peer / ours:.0f} x | AP {coco:.6f} |")
    print(f"| VOC's AP at IoU 0.5, frcnn eval | {voc:.2f} | {peer / voc:.0f} x | mAP {area:.6f} |")
    print(
        f"\nCOCO's numbers take {memory(args.images, args.detections):.0f} MB, with the detections and the libraries."
    )


if __name__ == "__main__":
    main()
