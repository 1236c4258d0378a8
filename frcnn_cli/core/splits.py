"""The names of splits."""

from __future__ import annotations

DEFAULT_SPLIT = "trainval"
SPLIT_FOLDERS = frozenset({"train", "val", "valid", "validation", "test", "trainval"})  # whatever their case
