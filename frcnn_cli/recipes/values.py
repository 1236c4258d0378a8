"""A recipe's values as they are typed or read: of the type that they must have, or refused in words."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from types import UnionType
from typing import Any, Literal, get_args, get_origin

from frcnn_cli.errors import UsageError


def typed(pairs: Iterable[str]) -> dict[str, Any]:
    """`section.name=value` as typed, by `section.name`; values as in TOML, text also without quotes.

    Raises:
        UsageError: no such pair.
    """
    values = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise UsageError(f"{pair!r} is not section.name=value", "For example solver.epochs=8")
        if key.strip() in values:
            raise UsageError(f"{key.strip()} is set twice", "Set it once")
        try:
            values[key.strip()] = tomllib.loads(f"value = {text.strip()}")["value"]
        except (ValueError, RecursionError):  # not TOML, or a number of thousands of digits
            values[key.strip()] = text.strip()
    return values


def checked(key: str, kind: Any, value: Any) -> Any:
    """The value as its type wants it: whole numbers serve as fractions, lists as tuples.

    Args:
        key: what the value is called. kind: its type, as the recipe annotates it.

    Raises:
        UsageError: it is of another type.
    """
    made = _as(kind, value)
    if made is None:
        raise UsageError(f"{key} is {value!r}, not {_described(kind)}")
    return made


def meant(word: str, known: Iterable[str]) -> str:
    """A question, where a word is nearly one that is known."""
    from difflib import get_close_matches

    near = get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _as(kind: Any, value: Any) -> Any:
    """None where the value is of another kind."""
    origin = get_origin(kind)
    if origin is Literal:
        return value if value in get_args(kind) else None
    if origin is tuple:
        kinds = get_args(kind)
        if not isinstance(value, (list, tuple)) or (kinds[-1] is not ... and len(value) != len(kinds)):
            return None
        made = tuple(_as(kinds[0], one) for one in value)
        return None if None in made else made
    if isinstance(value, bool) or kind is bool:
        return value if isinstance(value, bool) and kind is bool else None
    if kind is float and isinstance(value, int):
        return float(value) if abs(value) < 1 << 1000 else None
    if isinstance(value, float) and value - value != 0:  # NaN, infinity
        return None
    return value if isinstance(value, kind) else None


def _described(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(get_args(kind))
    if get_origin(kind) is tuple:
        inner, last = get_args(kind)[0], get_args(kind)[-1]
        return f"a list of {'' if last is ... else str(len(get_args(kind))) + ' '}{_plural[inner]}"
    return _singular[kind]


_singular: dict[type | UnionType, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_plural: dict[type | UnionType, str] = {int: "whole numbers", float: "numbers"}
