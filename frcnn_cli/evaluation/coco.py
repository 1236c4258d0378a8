"""COCO's twelve numbers, computed by faster-coco-eval, which gives the same results as pycocotools."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from frcnn_cli.core.annotations import Detections, GroundTruth
from frcnn_cli.evaluation.results import coco_results

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def coco_numbers(
    detections: Mapping[str, Detections], ground_truth: Mapping[str, GroundTruth], classes: Sequence[str]
) -> dict[str, float]:
    """Average precision and recall over IoU 0.5 to 0.95, by object size and number of detections; NaN without objects.

    Objects marked as crowd or difficult need not be found, and detections inside them do not count.

    Args:
        detections, ground_truth: by image key. An image without an entry in `detections` has no detections.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    logging.getLogger("faster_coco_eval").setLevel(logging.ERROR)
    ids = {key: i for i, key in enumerate(sorted(ground_truth), 1)}
    wanted = COCO(instances(ground_truth, ids, classes))
    results = coco_results(detections, ids)
    if not wanted.anns:
        return dict.fromkeys(NAMES, float("nan"))
    found = wanted.loadRes(results) if results else COCO({"images": [], "annotations": [], "categories": []})
    evaluation = COCOeval_faster(wanted, found, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    numbers = np.asarray(evaluation.stats[:12], float)
    return dict(zip(NAMES, np.where(numbers < 0, np.nan, numbers).tolist(), strict=True))


def instances(
    ground_truth: Mapping[str, GroundTruth], ids: Mapping[str, int], classes: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """The objects in the layout of COCO's instances; class i is category i + 1."""
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
