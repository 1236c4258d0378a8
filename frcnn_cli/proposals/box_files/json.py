"""`.json`: boxes by image, `{"image": [[x1, y1, x2, y2, perhaps score], ...]}`, or COCO results,
`[{"image_id": ..., "category_id": ..., "bbox": [x, y, w, h], "score": ...}, ...]`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from frcnn_cli.core.convention import Convention
from frcnn_cli.core.errors import FileFormatError, explain_os_error
from frcnn_cli.core.files import check_regular
from frcnn_cli.proposals.box_files.box_file import BoxFile, Items, as_rows


def read_json_boxes(path: Path) -> BoxFile:
    """Boxes by image, or COCO results. Raises FileFormatError."""
    try:
        content = json.loads(check_regular(path, FileFormatError).read_bytes())
    except OSError as error:
        raise explain_os_error(error, path) from None
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} is not JSON ({error})", 'Write {"image": [[x1, y1, x2, y2], ...]}') from None
    if isinstance(content, list):
        return _coco_results(path, content)
    if not isinstance(content, dict):
        raise FileFormatError(f"{path} holds a {type(content).__name__}", 'Write {"image": [[x1, y1, x2, y2], ...]}')
    values = list(content.values())
    names = list(content)
    return BoxFile(
        path, ".json by image", len(names), lambda i: as_rows(values[i], f"{path}: image {names[i]!r}"), names
    )


def write_coco_boxes(items: Items) -> bytes:
    """COCO results of category 1. The id of an image is its key, as a number if all keys are numbers. Without scores,
    scores decrease from 1 by rank. An image without boxes has no entry."""
    numbers = all(image.key.isdigit() for image, _ in items)
    results = []
    for image, found in items:
        boxes = Convention("xywh").from_boxes(found.boxes, image.width, image.height)
        scores = 1 - np.arange(len(boxes)) / max(len(boxes), 1) if found.scores is None else found.scores
        results += [
            {
                "image_id": int(image.key) if numbers else image.key,
                "category_id": 1,
                "bbox": box,
                "score": score,
            }
            for box, score in zip(boxes.tolist(), np.asarray(scores, np.float64).tolist(), strict=True)
        ]
    return json.dumps(results).encode()


def _coco_results(path: Path, content: list[Any]) -> BoxFile:
    rows: dict[str, list[list[Any]]] = {}
    scored = all(isinstance(item, dict) and "score" in item for item in content)
    for i, item in enumerate(content):
        box = item.get("bbox") if isinstance(item, dict) else None
        if not isinstance(box, list) or len(box) != 4 or "image_id" not in item:
            raise FileFormatError(
                f"{path}: entry {i} is not a COCO result", 'Write {"image_id": ..., "bbox": [x, y, w, h], "score": ...}'
            )
        rows.setdefault(str(item["image_id"]), []).append([*box, item["score"]] if scored else box)
    values = list(rows.values())
    names = list(rows)
    stated = {"order": "xywh", "base": 0, "inclusive": False, "relative": False}
    return BoxFile(
        path, "COCO results", len(names), lambda i: as_rows(values[i], f"{path}: image {names[i]!r}"), names, stated
    )
