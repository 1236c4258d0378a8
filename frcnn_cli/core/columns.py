"""The names that tools give to the columns of a table of boxes; used for labels and for proposals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

IMAGES = (
    "image", "filename", "file_name", "image_id", "imageid", "image_path", "image_name", "img", "img_path", "file",
    "path",
)  # fmt: skip
SCORES = ("score", "confidence", "conf")
CLASSES = ("class", "label", "class_name", "labelname", "name", "category", "category_name", "source_class")
ORDERS: Mapping[tuple[str, str, str, str], str] = {  # the columns of a box, and the order of its numbers
    ("left", "top", "right", "bottom"): "xyxy",
    ("x1", "y1", "x2", "y2"): "xyxy",
    ("xmin", "ymin", "xmax", "ymax"): "xyxy",
    ("x_min", "y_min", "x_max", "y_max"): "xyxy",
    ("x", "y", "w", "h"): "xywh",
    ("x", "y", "width", "height"): "xywh",
    ("left", "top", "width", "height"): "xywh",
    ("bbox_x", "bbox_y", "bbox_width", "bbox_height"): "xywh",
    ("cx", "cy", "w", "h"): "cxcywh",
    ("x_center", "y_center", "width", "height"): "cxcywh",
}


def first_of(names: Sequence[str], header: Sequence[str]) -> str | None:
    """The first of some names that a header has."""
    return next((name for name in names if name in header), None)


def box_columns(header: Sequence[str]) -> tuple[tuple[str, str, str, str], str] | None:
    """The columns of a box in a header, and the order of its numbers; None if there are none."""
    for names, order in ORDERS.items():
        if set(names) <= set(header):
            return names, order
    return None
