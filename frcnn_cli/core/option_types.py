"""The types that an option can have, and the grammar of their values (see `options`)."""

from __future__ import annotations

import math
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

Build = Callable[[Any, Any], Any]  # (type, value) -> instance, for types that this module does not know


def parse_value(kind: Any, value: Any, build: Build | None = None) -> Any:
    """The value in this type.

    Args:
        value: text as typed, or a TOML or JSON value.
        build: makes instances of types that this module does not know.

    Raises:
        ValueError, TypeError, KeyError, OverflowError: not a value of this type.
    """
    origin = get_origin(kind)
    if origin is Literal:
        return {str(choice): choice for choice in get_args(kind)}[_unquoted(value)]
    if origin is tuple:
        kinds = get_args(kind)
        items = _items(value)
        if kinds[-1] is not ... and len(items) != len(kinds):
            raise ValueError(f"{len(items)} values instead of {len(kinds)}")
        if kinds[-1] is ...:
            return tuple(parse_value(kinds[0], item, build) for item in items)
        return tuple(parse_value(one, item, build) for one, item in zip(kinds, items, strict=True))
    if origin in (Union, types.UnionType):
        if value is None or value == "none":
            return None
        return parse_value(next(arg for arg in get_args(kind) if arg is not type(None)), value, build)
    if kind is bool:
        return _parse_bool(value)
    if kind in (int, float):
        return _parse_number(kind, value)
    if kind is str:
        if not isinstance(value, str):
            raise TypeError("not text")
        return _unquoted(value)
    if kind is Path:
        if not isinstance(value, (str, Path)) or not str(value):
            raise ValueError("no path")
        return Path(value)
    if build is None:
        raise TypeError(f"options of type {kind} are not supported")
    return build(kind, value)


def is_supported(kind: Any) -> bool:
    """Whether an option can have this type; classes of other modules are made by the caller's `build`."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        return True
    if origin is tuple:
        return all(is_supported(arg) for arg in args if arg is not ...)
    if origin in (Union, types.UnionType):
        return len(args) == 2 and type(None) in args and all(is_supported(a) for a in args if a is not type(None))
    return origin is None and (kind in (int, float, bool, str, Path) or hasattr(kind, "described"))


def _items(value: Any) -> list[Any]:
    if not isinstance(value, str):
        if not isinstance(value, (list, tuple)):
            raise TypeError("not a list")
        return list(value)
    text = value.strip()
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1].strip()
        if not text:
            return []
    items = [item.strip() for item in text.split(",")]
    if "" in items:
        raise ValueError("an empty item")
    return items


def _parse_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise TypeError("not a truth value")
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    return words[value.strip().lower()]


def _parse_number(kind: type, value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError("not a number")
    if kind is int:
        if isinstance(value, float):
            if value != int(value):
                raise ValueError("not whole")
            return int(value)
        return int(value)
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("not finite")
    return number


def _unquoted(value: Any) -> str:
    text = str(value)
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    return text


def type_name(kind: Any) -> str:
    """The type in one word, as in `--set columns=int`."""
    origin = get_origin(kind)
    if origin is Literal:
        return " | ".join(map(str, get_args(kind)))
    if origin is tuple:
        return f"{type_name(get_args(kind)[0])},..."
    if origin in (Union, types.UnionType):
        return " | ".join("none" if arg is type(None) else type_name(arg) for arg in get_args(kind))
    return {Path: "path", str: "text"}.get(kind, "source" if kind not in (int, float, bool) else kind.__name__)


def expected(kind: Any) -> str:
    """The type as a phrase, for "must be ..."."""
    origin = get_origin(kind)
    if origin is Literal:
        *first, last = map(str, get_args(kind))
        return f"{', '.join(first)} or {last}" if first else last
    if origin is tuple:
        kinds = get_args(kind)
        count = "" if kinds[-1] is ... else f"{len(kinds)} "
        each = f" (each {expected(kinds[0])})" if get_origin(kinds[0]) is Literal else ""
        return f"a list of {count}{_PLURAL.get(kinds[0], 'values')}{each}"
    if origin in (Union, types.UnionType):
        return f"{expected(next(arg for arg in get_args(kind) if arg is not type(None)))}, or none"
    return _SINGULAR.get(kind, "the name of a source")


_SINGULAR: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
}
_PLURAL: dict[Any, str] = {int: "whole numbers", float: "numbers", str: "words"}
