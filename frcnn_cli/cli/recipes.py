"""frcnn recipes: what training and detection go by."""

from __future__ import annotations

import click

from frcnn_cli.cli import options
from frcnn_cli.cli.command import Command
from frcnn_cli.cli.display import Display

_EXAMPLES = {"list": "", "show": "paper", "diff": "paper modern"}


@click.command(cls=Command)
@click.argument("action", type=click.Choice(list(_EXAMPLES)), default="list")
@click.argument("names", nargs=-1, metavar="[RECIPE [RECIPE]]")
@options.as_json
@click.pass_obj
def command(display: Display, action: str, names: tuple[str, ...], as_json: bool) -> None:
    """List the recipes, show one, or show what two of them do not share.

    A recipe is "paper", "modern" or a TOML file. A file of your own says what it starts from, base = "modern", and
    below that what it changes.

    \b
    frcnn recipes
    frcnn recipes show paper
    frcnn recipes diff paper modern
    frcnn recipes diff modern my.toml --json
    """
    from frcnn_cli.recipes.reading import BUILT_IN, load
    from frcnn_cli.recipes.recipe import differences

    example = _EXAMPLES[action]
    if len(names) != len(example.split()):
        raise click.UsageError(f"{action} takes {len(example.split())} recipe(s): frcnn recipes {action} {example}")
    if action == "list":
        display.json(BUILT_IN) if as_json else display.table(("recipe", "what it is"), list(BUILT_IN.items()), left=2)
        return
    recipes = [load(name) for name in names]
    if action == "show":
        display.json(recipes[0].to_dict()) if as_json else display.result(recipes[0].to_toml().rstrip())
        return
    found = differences(*recipes)
    if as_json:
        display.json({key: dict(zip(names, pair, strict=True)) for key, pair in found.items()})
    elif found:
        display.table(("value", *names), [(key, *map(_written, pair)) for key, pair in found.items()])
    else:
        display.result("no value differs")


def _written(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
