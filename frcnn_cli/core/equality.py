"""`==` and `hash` for records that hold arrays.

The comparison that Python generates for dataclasses and tuples asks an array for its truth value, which raises.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np


class ArrayRecord:
    """Base of frozen dataclasses with array fields; declare them with `@dataclass(frozen=True, eq=False)`.

    Two records are equal if they are of the same class and all fields that take part in comparison are equal; arrays
    are equal if shape and all elements are.
    """

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and same_values(compared_values(self), compared_values(other))

    def __hash__(self) -> int:
        return hash_of_values(compared_values(self))


def compared_values(record: Any) -> tuple[Any, ...]:
    """The values of all dataclass fields that take part in comparison."""
    return tuple(getattr(record, field.name) for field in fields(record) if field.compare)


def same_values(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    """Whether two tuples are equal element by element; arrays by shape and content."""
    return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))


def hash_of_values(values: tuple[Any, ...]) -> int:
    """A hash of a tuple that may hold arrays and dicts."""
    return hash(tuple(map(_hashable, values)))


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    return bool(a == b)


def _hashable(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return (value.shape, (value + 0).tobytes())  # + 0: -0.0 equals 0.0, so both must have one hash
    if isinstance(value, dict):
        return tuple(sorted((str(key), repr(item)) for key, item in value.items()))
    return value
