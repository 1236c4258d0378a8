"""What a proposal source is: a frozen dataclass whose fields are its options.

An instance is a source ready to run. Its options are typed and documented once, as fields; from there come the checks,
`frcnn plugins NAME`, `--set key=value`, and what is recorded in files and models.
"""

from __future__ import annotations

import dataclasses
import types
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from frcnn_cli.boxes import Boxes
from frcnn_cli.errors import UsageError
from frcnn_cli.image import Image


class Proposals(NamedTuple):
    """Class-agnostic boxes of one image, best first.

    boxes: float32 [N, 4], x1 y1 x2 y2, continuous pixels inside the image.
    scores: float32 [N], larger is better; None where the order is all there is.
    """

    boxes: Boxes
    scores: NDArray[np.float32] | None = None


class Option(NamedTuple):
    """One option of a source, as shown to users."""

    name: str
    type: Any
    default: Any  # MISSING where it must be given
    help: str
    minimum: float | None
    maximum: float | None

    @property
    def type_name(self) -> str:
        return _type_name(self.type)

    @property
    def default_text(self) -> str:
        return "required" if self.default is MISSING else _as_text(self.default)


def option(default: Any = MISSING, *, help: str, minimum: float | None = None, maximum: float | None = None) -> Any:
    """A field of a source that users set with `--set name=value`.

    The annotation gives the type: int, float, bool, str, Path, Literal[...], or tuple[T, ...] (commas between values).
    Without a default the option must be given. `minimum` and `maximum` bound numbers, and each number of a tuple.
    """
    return field(default=default, metadata={"help": help, "minimum": minimum, "maximum": maximum})


@dataclass(frozen=True)
class ProposalSource(ABC):
    """Turns one image into boxes. Subclass as a frozen dataclass; see `frcnn_cli.proposals.hook`.

    A source is deterministic, never writes to the image, and handles every size from 1 x 1 up. It is pickled to worker
    processes, so what is costly to build is made on first use, not in `__init__`. A combination of options that makes
    no sense is refused with ValueError in `__post_init__`.
    """

    name: ClassVar[str]
    version: ClassVar[str]

    @abstractmethod
    def propose(self, image: Image) -> Proposals:
        """Boxes of one image, best first: a `Proposals`, or just the array of boxes."""

    def prepare(self) -> None:  # noqa: B027 (most sources need nothing)
        """Called once, before the first image, where a run begins. Raise FrcnnError if the source cannot work at all
        (a file that it needs is damaged), so that it is said once and not for every image."""

    def files(self) -> list[Path]:
        """The files that the options name, and that the source reads."""
        return [value for value in vars(self).values() if isinstance(value, Path)]

    @classmethod
    def options(cls) -> list[Option]:
        """The options in the order of the class."""
        hints = get_type_hints(cls)
        undocumented = [f.name for f in dataclasses.fields(cls) if not f.metadata.get("help")]
        if undocumented:
            raise TypeError(f"field {undocumented[0]!r} of {cls.__name__} must be made with option(..., help=...)")
        return [
            Option(f.name, hints[f.name], f.default, f.metadata["help"], f.metadata["minimum"], f.metadata["maximum"])
            for f in dataclasses.fields(cls)
        ]

    @classmethod
    def configured(cls, values: Mapping[str, Any]) -> Self:
        """A source with these options; values are strings as typed, or JSON values as recorded.

        Raises:
            UsageError: an unknown option, a value of the wrong type or out of range, a missing one.
        """
        known = {opt.name: opt for opt in cls.options()}
        parsed = {}
        for key, value in values.items():
            opt = known.get(key.replace("-", "_"))
            if opt is None:
                have = ", ".join(known) or "none"
                raise UsageError(f"source {cls.name!r} has no option {key!r}", f"It has: {have}")
            parsed[opt.name] = _checked(cls.name, opt, value)
        for opt in known.values():
            if opt.default is MISSING and opt.name not in parsed:
                raise UsageError(f"source {cls.name!r} needs {opt.name}: {opt.help}", f"Add --set {opt.name}=VALUE")
        try:
            return cls(**parsed)
        except ValueError as error:
            raise UsageError(f"source {cls.name!r}: {error}", f"See frcnn plugins {cls.name}") from None

    def described(self) -> dict[str, Any]:
        """Name, version and options as JSON values: what files and models record, and `configured` reads back."""
        options = {f.name: json_value(getattr(self, f.name)) for f in dataclasses.fields(self)}
        return {"name": self.name, "version": self.version, "options": options}


def parse_settings(pairs: tuple[str, ...]) -> dict[str, str]:
    """`("mode=fast", ...)` as a dict. Raises UsageError for a pair without '=' or a key given twice."""
    settings: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {pair!r} is not KEY=VALUE", "Write for example --set preset=fast")
        if key in settings:
            raise UsageError(f"--set {key} is given twice", "Give each option once")
        settings[key] = value
    return settings


def _checked(source: str, opt: Option, value: Any) -> Any:
    try:
        parsed = _parse(opt.type, value)
    except (ValueError, TypeError, KeyError):
        raise UsageError(
            f"source {source!r}: {opt.name}={_as_text(value)} is not {opt.type_name}", f"{opt.name}: {opt.help}"
        ) from None
    for number in parsed if isinstance(parsed, tuple) else (parsed,):
        if isinstance(number, (int, float)) and not isinstance(number, bool):
            if opt.minimum is not None and not number >= opt.minimum:
                raise UsageError(f"source {source!r}: {opt.name}={number} is below {opt.minimum}", opt.help)
            if opt.maximum is not None and not number <= opt.maximum:
                raise UsageError(f"source {source!r}: {opt.name}={number} is above {opt.maximum}", opt.help)
    return parsed


def _parse(kind: Any, value: Any) -> Any:
    origin = get_origin(kind)
    if origin is Literal:
        return {str(choice): choice for choice in get_args(kind)}[str(value)]
    if origin is tuple:
        items = value.split(",") if isinstance(value, str) else list(value)
        if not items or items == [""]:
            raise ValueError("empty")
        return tuple(_parse(get_args(kind)[0], item) for item in items)
    if origin in (Union, types.UnionType):  # Optional: the text "none", or JSON null
        if value is None or value == "none":
            return None
        return _parse(next(arg for arg in get_args(kind) if arg is not type(None)), value)
    if kind is bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if isinstance(value, bool):
            return value
        if str(value).lower() not in words:
            raise ValueError(value)
        return words[str(value).lower()]
    if isinstance(value, bool):
        raise ValueError(value)
    if kind is int and isinstance(value, float) and value != int(value):
        raise ValueError(value)
    if kind is Path and value == "":
        raise ValueError(value)
    return kind(value)


def _type_name(kind: Any) -> str:
    origin = get_origin(kind)
    if origin is Literal:
        return " | ".join(map(str, get_args(kind)))
    if origin is tuple:
        return f"{_type_name(get_args(kind)[0])},..."
    if origin in (Union, types.UnionType):
        return " | ".join("none" if arg is type(None) else _type_name(arg) for arg in get_args(kind))
    return "path" if kind is Path else str(kind.__name__)


def _as_text(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return ",".join(map(_as_text, value))
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return str(value)


def json_value(value: Any) -> Any:
    """An option's value as JSON has it."""
    if isinstance(value, tuple):
        return [json_value(item) for item in value]
    return str(value) if isinstance(value, Path) else value
