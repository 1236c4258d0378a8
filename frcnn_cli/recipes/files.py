"""Recipe files: the built-in ones, and TOML files that state what they start from."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from frcnn_cli.core.errors import UsageError
from frcnn_cli.core.options import did_you_mean
from frcnn_cli.system.untrusted import read_text

BUILT_IN = {
    "paper": "the authors' released code of 2015; docs/fidelity.md lists the exceptions",
    "modern": "later improvements; docs/recipes.md has their effect on BCCD",
}
_MAX_BYTES = 1 << 20


def read_recipe(name: str) -> list[tuple[str, dict[str, Any]]]:
    """The values that a recipe changes, from the one it starts from to itself: name, and values by section.

    Args:
        name: "paper" (which changes nothing), "modern", or the path of a TOML file.

    Raises:
        UsageError: there is no such recipe, or the file is not one. FrcnnError: the file cannot be read.
    """
    return _read(name, ())


def _read(name: str, seen: tuple[Path, ...]) -> list[tuple[str, dict[str, Any]]]:
    if name == "paper":
        return []
    path = Path(name).resolve()
    if name in BUILT_IN:
        text = resources.files(__package__).joinpath(f"{name}.toml").read_text("utf-8")
    elif path in seen:
        raise UsageError(f"recipe {name} is based on itself", "Base it on paper or modern")
    else:
        text = _read_file(Path(name))
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name} is not TOML ({error})", "frcnn recipes show paper prints an example") from None
    base = values.pop("base", "paper")
    if not isinstance(base, str):
        raise UsageError(f"{name}: base is {base!r}, not the name of a recipe", 'Write base = "paper"')
    # A base that is a file is relative to the file that names it.
    found = base if base in BUILT_IN else str(Path(name).parent / base)
    return [*_read(found, (*seen, path)), (name, values)]


def _read_file(path: Path) -> str:
    if not path.is_file():
        known = f"Write {' or '.join(BUILT_IN)}, or name a TOML file"
        raise UsageError(f"there is no recipe {str(path)!r}{did_you_mean(str(path), BUILT_IN)}", known)
    return read_text(path, _MAX_BYTES, UsageError)
