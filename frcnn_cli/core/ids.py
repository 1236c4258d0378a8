"""The IDs that COCO's files give to images, classes and objects."""

from __future__ import annotations

from typing import Any

CocoId = int | str


def as_id(value: Any) -> CocoId | None:
    """An ID in one spelling, so that 1, 1.0 and "1" are equal; None for a value that cannot be an ID.

    COCO's own IDs are whole numbers. Other tools write them as text or floats, or use names.
    """
    if isinstance(value, bool) or value is None or value == "":
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str):
        digits = value.removeprefix("-")
        return int(value) if digits.isdecimal() and digits.isascii() and len(digits) < 19 else value
    return None
