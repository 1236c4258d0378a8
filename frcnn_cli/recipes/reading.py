"""Recipes by name: those of the package, and TOML files of users, which say what they start from."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path

from frcnn_cli.errors import UsageError
from frcnn_cli.files import read_text
from frcnn_cli.recipes.recipe import Recipe
from frcnn_cli.recipes.values import meant

BUILT_IN = {
    "paper": "the authors' released code of 2015, number by number",
    "modern": "what practice has taught since, as far as it was measured",
}
_MAX_BYTES = 1 << 20


def load(name: str) -> Recipe:
    """A recipe by name, or from a TOML file.

    Raises:
        UsageError: there is none, or it is not a recipe. FrcnnError: the file cannot be read.
    """
    return _load(name, ())


def _load(name: str, seen: tuple[Path, ...]) -> Recipe:
    path = Path(name).resolve()
    if name in BUILT_IN:
        text = resources.files(__package__).joinpath(f"{name}.toml").read_text("utf-8")
    elif path in seen:
        raise UsageError(f"recipe {name} starts from itself", "Start it from paper or modern")
    else:
        text = _read(Path(name))
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name} is not TOML ({error})", "frcnn recipes show paper prints one") from None
    base = values.pop("base", None)
    if base is not None and not isinstance(base, str):
        raise UsageError(f"{name}: base is {base!r}, not a recipe", 'Write base = "paper"')
    # A file that is named lies beside the file that names it.
    found = base if base is None or base in BUILT_IN else str(Path(name).parent / base)
    start = _load(found, (*seen, path)) if found is not None else None
    try:
        return Recipe.from_dict(values, start)
    except UsageError as error:
        error.what = f"{name}: {error.what}"
        raise


def _read(path: Path) -> str:
    if not path.is_file():
        known = f"Write {' or '.join(BUILT_IN)}, or name a TOML file"
        raise UsageError(f"there is no recipe {str(path)!r}{meant(str(path), BUILT_IN)}", known)
    return read_text(path, _MAX_BYTES, UsageError)
