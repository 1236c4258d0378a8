"""Proposals in the formats of other tools; `frcnn import` reads each of them back to the same boxes."""

from __future__ import annotations

import csv
import io
import json
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from frcnn_cli.image import ImageRecord
from frcnn_cli.proposals.files.convention import Convention
from frcnn_cli.proposals.source import Proposals

Items = Sequence[tuple[ImageRecord, Proposals]]


def to_detectron2(items: Items) -> bytes:
    """`dict(ids, boxes, objectness_logits, bbox_mode)`, pickled; without scores, logits fall by 1 from 0 as ranks."""
    content = {
        "ids": [image.key for image, _ in items],
        "boxes": [found.boxes for _, found in items],
        "objectness_logits": [
            -np.arange(len(found.boxes), dtype=np.float32) if found.scores is None else found.scores
            for _, found in items
        ],
        "bbox_mode": 0,  # XYXY_ABS
    }
    return pickle.dumps(content, protocol=4)


def to_mmdet(items: Items) -> bytes:
    """`{key: [n, 4], or [n, 5] with scores}`, pickled."""
    return pickle.dumps({image.key: _rows(found) for image, found in items}, protocol=4)


def to_mat(items: Items) -> bytes:
    """The layout of the published selective-search boxes: cell arrays `images` and `boxes` (y1 x1 y2 x2, from 1, the
    last pixel inside), and `scores` where there are any; and `convention`, for `frcnn import`."""
    import scipy.io

    published = Convention("yxyx", base=1, inclusive=True)
    columns: dict[str, list[Any]] = {
        "images": [image.key for image, _ in items],
        "boxes": [published.from_boxes(found.boxes, image.width, image.height) for image, found in items],
    }
    if all(found.scores is not None for _, found in items):
        columns["scores"] = [np.asarray(found.scores, np.float64)[:, None] for _, found in items]
    cells: dict[str, Any] = {"convention": published.words}  # without it, whole pixels at no border would tell nothing
    for name, values in columns.items():
        cells[name] = np.empty((1, len(values)), object)
        for i, value in enumerate(values):
            cells[name][0, i] = value
    written = io.BytesIO()
    scipy.io.savemat(written, cells, do_compression=True)
    return written.getvalue()


def to_coco(items: Items) -> bytes:
    """Results: `[{"image_id", "category_id": 1, "bbox": [x, y, w, h], "score"}]`. An image's id is its key; a number
    where all keys are numbers. Without scores, they fall from 1 by rank. An image without boxes leaves no trace."""
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


def to_csv(items: Items) -> bytes:
    """Lines of image, left, top, right, bottom and perhaps score, in our convention; an image without boxes has a line
    of its own."""
    scored = all(found.scores is not None for _, found in items)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header = ["image", "left", "top", "right", "bottom", *(["score"] if scored else [])]
    writer.writerow(header)
    for image, found in items:
        rows = _rows(found)
        if not len(rows):
            writer.writerow([image.key] + [""] * (len(header) - 1))
        writer.writerows([image.key, *(repr(float(v)) for v in row)] for row in rows)
    return text.getvalue().encode()


def _rows(found: Proposals) -> np.ndarray[Any, np.dtype[np.float32]]:
    if found.scores is None:
        return found.boxes
    return np.concatenate([found.boxes, found.scores[:, None]], axis=1)


FORMATS: dict[str, tuple[str, Callable[[Items], bytes]]] = {  # file ending, writer
    "detectron2": (".pkl", to_detectron2),
    "mmdet": (".pkl", to_mmdet),
    "mat": (".mat", to_mat),
    "coco": (".json", to_coco),
    "csv": (".csv", to_csv),
}
