"""Typed options: declared once as dataclass fields, with one grammar for their values.

Proposal sources and recipe sections declare their options with `option()`. From the field come the type check, the
bounds, the documentation and what is recorded in files. Values arrive as text (`--set KEY=VALUE`) or as TOML or JSON
values, and follow one grammar:

    | type             | text                                        | TOML, JSON      |
    |------------------|---------------------------------------------|-----------------|
    | int, float       | 8, 0.001, 1e-3                              | a number        |
    | bool             | true, false (also yes, no, 1, 0)            | true, false     |
    | str, Literal     | text, with or without "quotes"              | a string        |
    | Path             | a path                                      | a string        |
    | tuple            | 50,100 or [50, 100]; [] is the empty list   | a list          |
    | X | None         | none                                        | null            |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from frcnn_cli.core.errors import UsageError
from frcnn_cli.core.option_types import Build, expected, is_supported, parse_value, type_name


def option(
    default: Any = MISSING,
    *,
    help: str,
    minimum: float | None = None,
    maximum: float | None = None,
    positive: bool = False,
) -> Any:
    """A dataclass field that users can set with `--set name=value`.

    The annotation gives the type; see the module.

    Args:
        default: without one, the option is required.
        help: what the option means, as a full sentence or noun phrase.
        minimum, maximum: bounds of a number, or of each number of a tuple.
        positive: the number must be greater than 0.
    """
    about = {"help": help, "minimum": minimum, "maximum": maximum, "positive": positive}
    return field(default=default, metadata=about)


@dataclass(frozen=True)
class Option:
    """One option as declared. default: `MISSING` if the option is required."""

    name: str
    type: Any
    default: Any
    help: str
    minimum: float | None = None
    maximum: float | None = None
    positive: bool = False

    @property
    def type_name(self) -> str:
        """The type in one word, as in `--set columns=int`."""
        return type_name(self.type)

    @property
    def bounds_text(self) -> str:
        """The bounds of a number, for tables: "0 to 1", "at least 1"; empty without bounds."""
        if self.minimum is not None and self.maximum is not None:
            return f"{self.minimum:g} to {self.maximum:g}"
        if self.positive:
            return "more than 0" if self.maximum is None else f"more than 0, up to {self.maximum:g}"
        if self.minimum is not None:
            return f"at least {self.minimum:g}"
        return "" if self.maximum is None else f"at most {self.maximum:g}"

    @property
    def default_text(self) -> str:
        return "required" if self.default is MISSING else as_text(self.default)

    def parse(self, value: Any, build: Build | None = None) -> Any:
        """The value in the declared type, within the bounds.

        Args:
            value: text as typed, or a TOML or JSON value.
            build: makes instances of types that this module does not know.

        Raises:
            UsageError: another type, or out of bounds. Its `what` begins with the option's name.
        """
        try:
            parsed = parse_value(self.type, value, build)
        except (ValueError, TypeError, KeyError, OverflowError):
            wanted = expected(self.type)
            raise UsageError(f"{self.name} must be {wanted}, not {as_text(value)!r}", self._about()) from None
        if parsed == () and self.default != ():
            raise UsageError(f"{self.name} must hold at least one value", self._about())
        for number in parsed if isinstance(parsed, tuple) else (parsed,):
            if isinstance(number, (int, float)) and not isinstance(number, bool):
                self._check_bounds(number)
        return parsed

    def _check_bounds(self, number: float) -> None:
        written = f"{self.name}={number:g}" if isinstance(number, float) else f"{self.name}={number}"
        if self.positive and not number > 0:
            raise UsageError(f"{written} must be greater than 0", self._about())
        if self.minimum is not None and number < self.minimum:
            raise UsageError(f"{written} is too small (minimum {self.minimum:g})", self._about())
        if self.maximum is not None and number > self.maximum:
            raise UsageError(f"{written} is too large (maximum {self.maximum:g})", self._about())

    def _about(self) -> str:
        return f"Its meaning: {self.help}"


def options_of(cls: type) -> list[Option]:
    """The options of a dataclass, in the order of its fields.

    Raises:
        TypeError: a field that was not declared with `option()`, or is of a type that options do not support.
        ValueError: a default out of its bounds.
    """
    hints = get_type_hints(cls)
    found = []
    for declared in dataclasses.fields(cls):
        if not declared.metadata.get("help"):
            raise TypeError(f"field {declared.name!r} of {cls.__name__} must be declared with option(..., help=...)")
        about = {key: declared.metadata.get(key) for key in ("help", "minimum", "maximum")}
        positive = bool(declared.metadata.get("positive"))
        opt = Option(declared.name, hints[declared.name], declared.default, **about, positive=positive)  # type: ignore[arg-type]
        if not is_supported(opt.type):
            kind = getattr(opt.type, "__name__", opt.type) if get_origin(opt.type) is None else opt.type
            raise TypeError(
                f"field {opt.name!r} of {cls.__name__} has the type {kind}, which options cannot have; use int, float,"
                " bool, str, Path, Literal, a tuple of them, or one of them | None"
            )
        for number in opt.default if isinstance(opt.default, tuple) else (opt.default,):
            if isinstance(number, (int, float)) and not isinstance(number, bool):
                try:
                    opt._check_bounds(number)
                except UsageError as error:
                    raise ValueError(f"default of {cls.__name__}: {error.what}") from None
        found.append(opt)
    return found


def parse_settings(pairs: Iterable[str]) -> dict[str, str]:
    """`("mode=fast", ...)` as a dict of text values.

    Raises:
        UsageError: a pair without "=", or a key that is given twice.
    """
    settings: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        key = key.strip()
        if not equals or not key:
            raise UsageError(f"--set {pair!r} is not KEY=VALUE", "Use for example --set preset=fast")
        if key in settings:
            raise UsageError(f"--set {key} is given twice", "Set each option once")
        settings[key] = value.strip()
    return settings


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`"; did you mean X?"` if a known word is similar, else an empty string."""
    from difflib import get_close_matches

    near = get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def json_value(value: Any) -> Any:
    """A value of an option as JSON: tuples become lists, paths strings, nested sources their description."""
    if isinstance(value, tuple):
        return [json_value(item) for item in value]
    if hasattr(value, "described"):
        return value.described()
    return str(value) if isinstance(value, Path) else value


def as_text(value: Any) -> str:
    """A value as a user would type it after `--set KEY=`."""
    if isinstance(value, (tuple, list)):
        return ",".join(map(as_text, value)) if value else "[]"
    if isinstance(value, bool) or value is None:
        return "none" if value is None else str(value).lower()
    if isinstance(value, Mapping) and "name" in value:
        return str(value["name"])
    return str(value)
